"""One live transcript: tokens written at every update, committed by rule, the rest taken back.

Needs no torch: an engine runs the decoder where an update asks it to. What the last update wrote and
nobody committed is fed as a draft, so one call of the decoder tells how much of it still holds,
and only what is new is written a token at a call:

    prompt + committed        draft               new, one by one
    <s> so said the           cap tain 's         cat
    '- kept by the cache -'   '- fed at once -'

Dimensions: H = watched heads, S = tokens scored in one call, P = pooled frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model_store.decoding.hotwords import Floats, Hotwords, Ints
from model_store.decoding.hypothesis import Hypothesis
from model_store.decoding.repetition import LONGEST_PERIOD, without_loops
from model_store.text.agreement import CommitRule, Committer, Update, expected_rows

Array = npt.NDArray[np.float32]

CONTINUES_LOGPROB = -1.0
"""Mean from which on what stands in for a doubted end token is believed."""

CONTINUES_TOKENS = 2
"""Tokens that it has at least."""

RESUMING_TOKENS = 5
"""Tokens of a guess that are looked at for the place where it holds again."""

MOST_DRAFT = 6
"""Tokens of a guess that are fed at once: in a call that several transcripts share, each has as many
places as the one that feeds most."""

LOOP_TOKENS = 2 * LONGEST_PERIOD
"""Committed tokens that are looked at for the beginning of a loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveModel:
    """What a transcript needs to know of its model.

    Args:
        prompt: tokens every transcript starts from.
        end_token: stops an update; it counts only once the utterance has ended.
        row_s: seconds of audio in one pooled frame.
        reuse: go on from the cache of the committed tokens, though it was computed against less
            audio; otherwise they are fed anew at every update.
    """

    prompt: tuple[int, ...]
    end_token: int
    row_s: float
    reuse: bool = True


@dataclass(frozen=True, slots=True)
class Feed:
    """What a transcript wants of the next decoder call.

    Args:
        kept_tokens: how many tokens of the cache still hold; those behind them are forgotten.
        tokens: to take in.
        num_scored: after how many of them, from the last, the next token is wanted.
        biased: whether `Scored.logprobs_of` is wanted, too.
    """

    kept_tokens: int
    tokens: tuple[int, ...]
    num_scored: int
    biased: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """What a decoder call gives one transcript.

    Args:
        tokens: the likeliest after each scored place.
        logprobs: natural logarithm of their probabilities.
        weights_HSP: cross-attention weights of the watched heads there; None when none are.
        others, other_logprobs: the likeliest besides the end token; empty where no engine says,
            and then every end token is believed.
        logprobs_of: those of some tokens at a scored place; where they were wanted.
    """

    tokens: Sequence[int]
    logprobs: Sequence[float]
    weights_HSP: Array | None
    others: Sequence[int] = ()
    other_logprobs: Sequence[float] = ()
    logprobs_of: Callable[[int, Ints], Floats] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderCall:
    """One call of a decoder with caches, for one transcript.

    Args:
        new_tokens: taken in.
        tokens: in the cache afterwards.
        rows: pooled frames that there were.
        scored: output rows.
    """

    new_tokens: int
    tokens: int
    rows: int
    scored: int


@dataclass(slots=True)
class Written:
    """Tokens with what is known of each."""

    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    position_rows: list[float] = field(default_factory=list[float])
    weights_HP: list[Array] = field(default_factory=list[Array])

    def __add__(self, other: "Written") -> "Written":
        return Written(
            self.tokens + other.tokens,
            self.logprobs + other.logprobs,
            self.position_rows + other.position_rows,
            self.weights_HP + other.weights_HP,
        )

    def part(self, start: int, end: int | None = None) -> "Written":
        """Give the tokens [start, end)."""
        return Written(
            self.tokens[start:end],
            self.logprobs[start:end],
            self.position_rows[start:end],
            self.weights_HP[start:end],
        )


@dataclass(frozen=True, slots=True)
class _Doubt:
    """An end token that was not believed at once: where it came, and what was known of it."""

    place: int
    logprob: float
    weights_HP: Array | None


class LiveTranscript:
    """What an utterance says so far.

    Args:
        model: prompt, end token, length of a row.
        rule: when a token is settled.
    """

    def __init__(self, model: LiveModel, rule: CommitRule) -> None:
        self._model = model
        self._rule = rule
        self._committer = Committer(rule, model.row_s)
        self.committed = Written()
        self.tentative = Written()
        self.hotwords: Hotwords | None = None
        self._in_cache = 0
        self._feed: Feed | None = None
        self._draft: tuple[int, ...] = ()
        self._expected: tuple[int, ...] = ()
        self._new = Written()
        self._room = 0
        self._num_rows = 0
        self._ended = False
        self._fresh = 0
        self._end: tuple[float, Array | None] | None = None
        self._doubted: _Doubt | None = None
        self.calls = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the weights that are kept for the words' times."""
        kept = self.committed.weights_HP + self.tentative.weights_HP
        return sum(weights_HP.nbytes for weights_HP in kept)

    @property
    def feed(self) -> Feed | None:
        """What the update under way wants next; None once it is done."""
        return self._feed

    def expect(self, tokens: Sequence[int]) -> None:
        """Take what somebody else wrote for a guess at what the next update will write."""
        self._expected = tuple(tokens)

    def open_update(self, num_rows: int, most_tokens: int, *, ended: bool) -> None:
        """Begin an update.

        Args:
            num_rows: pooled frames that there are.
            most_tokens: limit of the whole transcript.
            ended: nothing follows these frames.
        """
        self._new, self._end, self._num_rows = Written(), None, num_rows
        self._ended, self._fresh = ended, 0
        self._doubted = None
        room = most_tokens - len(self.committed.tokens)
        self._room = max(0, room if ended else min(room, self._rule.most_tentative))
        if not self._room and not ended:
            self._feed = None
            return
        before = (*self._model.prompt, *self.committed.tokens)
        # The last token is fed in any case: the next one is read off what it gives.
        kept = min(self._in_cache, len(before) - 1) if self._model.reuse else 0
        guess = (self._expected or self._committer.tentative)[: max(0, self._room - 1)]
        self._draft, self._expected = guess[:MOST_DRAFT], guess[MOST_DRAFT:]
        fed = (*before[kept:], *self._draft)
        self._feed = Feed(kept, fed, len(self._draft) + 1, self.hotwords is not None)

    def take(self, scored: Scored) -> None:
        """Take what a decoder call gave for `feed`."""
        feed = self._feed
        assert feed is not None, "expected an update under way"
        self.calls += 1
        fed = feed.kept_tokens + len(feed.tokens)
        place = 0
        for place in range(feed.num_scored):
            token, logprob = self._chosen(scored, place)
            weights_HP = None if scored.weights_HSP is None else scored.weights_HSP[:, place]
            guess = self._draft[place:] or self._expected
            guessed = bool(guess) and token == guess[0]
            # What was fed behind the first token that no longer holds is none of this transcript.
            self._in_cache = fed - (feed.num_scored - 1 - place)
            if token == self._model.end_token and scored.others and self._is_doubtful():
                self._doubted = _Doubt(len(self._new.tokens), logprob, weights_HP)
                token, logprob = scored.others[place], scored.other_logprobs[place]
                self._fresh = 0
            self._fresh += not guessed
            if not self._keep(token, logprob, weights_HP):
                self._feed = None
                self._judge()
                return
            if not guessed:
                break
        self._expected = (*self._draft[place:], *self._expected)
        self._draft = self._resumed()
        tokens = (self._new.tokens[-1], *self._draft)
        self._feed = Feed(self._in_cache, tokens, len(tokens), self.hotwords is not None)

    def close_update(self, *, ended: bool) -> None:
        """Commit what is settled; everything once the utterance has ended."""
        assert self._feed is None, "expected the update to be done"
        new = self._new if ended else self._new.part(0, self._without_loop())
        update = Update(
            new.tokens,
            new.logprobs,
            new.position_rows,
            self._num_rows,
            ended=ended,
            stopped=self._end is not None,
        )
        settled = self._committer.commit(update)
        self.committed += new.part(0, settled)
        self.tentative = new.part(settled)

    def hypothesis(self) -> Hypothesis:
        """Give the whole transcript of an utterance that has ended."""
        end_logprob, end_weights_HP = self._end or (0.0, None)
        weights_HP = [*self.committed.weights_HP]
        if end_weights_HP is not None:
            weights_HP.append(end_weights_HP)
        return Hypothesis(
            list(self.committed.tokens),
            list(self.committed.logprobs),
            end_logprob,
            self._end is not None,
            self.calls,
            _stacked(weights_HP, self._num_rows) if weights_HP else None,
        )

    def _resumed(self) -> tuple[int, ...]:
        """Give what follows of the guess, where its next token was written.

        A whole text's guess is looked through a little further, and kept until it holds again.
        """
        token = self._new.tokens[-1]
        ahead = self._expected[: RESUMING_TOKENS if self._ended else 1]
        if token not in ahead:
            self._expected = self._expected if self._ended else ()
            return ()
        left = self._expected[ahead.index(token) + 1 :]
        left = left[: max(0, self._room - len(self._new.tokens) - 1)]
        self._expected = left[MOST_DRAFT:]
        return left[:MOST_DRAFT]

    def _chosen(self, scored: Scored, place: int) -> tuple[int, float]:
        """Give the token at a scored place: the likeliest, or one of a hotword."""
        likeliest = scored.tokens[place], scored.logprobs[place]
        logprobs_of = scored.logprobs_of
        if self.hotwords is None or logprobs_of is None:
            return likeliest
        return self.hotwords.choose(
            self.committed.tokens + self._new.tokens,
            likeliest,
            lambda token_C: logprobs_of(place, token_C),
            self._model.end_token,
        )

    def _keep(self, token: int, logprob: float, weights_HP: Array | None) -> bool:
        """Keep a token; give whether more may follow."""
        if token == self._model.end_token:
            self._end = (logprob, weights_HP)
            return False
        if not self._room:
            return False
        self._new.tokens.append(token)
        self._new.logprobs.append(logprob)
        if weights_HP is not None:
            self._new.position_rows += expected_rows(weights_HP[:, None])
            self._new.weights_HP.append(weights_HP)
        return len(self._new.tokens) < self._room and (self._ended or self._goes_on())

    def _goes_on(self) -> bool:
        """Say whether an update that is not the last leaves nothing to the next one."""
        return self._fresh < self._rule.most_fresh and not self._at_edge()

    def _at_edge(self) -> bool:
        """Say whether what follows would be guessed from audio that is still to come."""
        rows = self._new.position_rows[-1:]
        watches = self._rule.method != "agreement"
        return watches and bool(rows) and self._committer.at_edge(rows[0], self._num_rows)

    def _is_doubtful(self) -> bool:
        """Say whether much audio lies behind the last token; once in an update."""
        rows = (self.committed.position_rows + self._new.position_rows)[-1:]
        if self._doubted is not None or not rows or not self._room:
            return False
        return (self._num_rows - rows[0]) * self._model.row_s > self._rule.unheard_s

    def _judge(self) -> None:
        """Believe what stands in for a doubted end token where it is likely and moves on."""
        doubt = self._doubted
        if doubt is None:
            return
        told = self._new.part(doubt.place)
        before = (self.committed.position_rows + self._new.position_rows[: doubt.place])[-1]
        likely = len(told.tokens) >= CONTINUES_TOKENS and (
            sum(told.logprobs) / len(told.tokens) >= CONTINUES_LOGPROB
        )
        if likely and max(told.position_rows) > before:
            return
        self._new = self._new.part(0, doubt.place)
        self._end = (doubt.logprob, doubt.weights_HP)

    def _without_loop(self) -> int:
        """Count the new tokens before one where the transcript begins to loop."""
        if not self._new.position_rows:
            return len(self._new.tokens)
        tail = self.committed.part(max(0, len(self.committed.tokens) - LOOP_TOKENS)) + self._new
        position_s = [row * self._model.row_s for row in tail.position_rows]
        looping = len(tail.tokens) - without_loops(tail.tokens, position_s)
        return max(0, len(self._new.tokens) - looping)


def _stacked(weights_HP: Sequence[Array], num_rows: int) -> Array:
    """Give (H, U, P) of weights over the frames there were; later frames had none."""
    heads = weights_HP[0].shape[0]
    stacked_HUP = np.zeros((heads, len(weights_HP), num_rows), np.float32)
    for place, one_HP in enumerate(weights_HP):
        stacked_HUP[:, place, : one_HP.shape[1]] = one_HP
    return stacked_HUP
