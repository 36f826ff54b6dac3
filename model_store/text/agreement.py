"""How much of a transcript is settled while somebody still speaks.

At every update an incremental decoder writes a few tokens after the committed ones, against the
audio there is. Some of them are committed, which nothing takes back, the rest is written anew:

    committed          tentative
    |so| |said| |the|  |cap| |tain|  audio ends
                       '- commit? -'

Two signs that a token will stay: the updates before wrote the same (LocalAgreement) or the decoder
is sure of it, and its attention was not yet at the end of the audio when it wrote it (AlignAtt).

Source: Liu et al., Low-Latency Sequence-to-Sequence Speech Recognition, arXiv 2005.11185
(LocalAgreement); Papi et al., AlignAtt, arXiv 2305.11408, with the expected instead of the most
attended frame.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model_store.text.tokens import WordPiece

Method = Literal["agreement", "attention", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRule:
    """When a token counts as settled.

    Args:
        method: updates agree on it, attention stays off the edge, or both.
        agreeing: updates in a row that have to; two or more.
        sure_logprob: of `both`; tokens from here on, the first one and those after it, need no
            second update. -0.15 is a probability of 0.86.
        least_s: audio of the utterance before which nothing is committed: on a second of it two
            updates agree on a guess.
        edge_s: audio at the end that attention must not have reached; the first token that does
            is an update's last, since none behind it could be committed.
        min_logprob: a token below waits for more audio, and those after it with it ...
        patience_s: ... until so much audio lies behind it.
        most_tentative: tokens an update may write after the committed ones.
        most_fresh: of them that the update before did not write; each costs a decoder call, and
            the streams of a step wait for the one that writes most.
        unheard_s: audio behind the last token from which on an end token is doubted: a decoder
            that once closed a sentence may go deaf to what follows, so it has to say once what it
            would write instead. Infinite: never.
    """

    method: Method = "both"
    agreeing: int = 2
    sure_logprob: float = -0.15
    least_s: float = 1.7
    edge_s: float = 0.6
    min_logprob: float = -np.inf
    patience_s: float = 2.5
    most_tentative: int = 32
    most_fresh: int = 4
    unheard_s: float = 1.5


WHOLE = CommitRule(unheard_s=math.inf)
"""Of transcripts that are written at once: their end is believed."""


@dataclass(frozen=True, slots=True)
class Update:
    """What one update wrote after the committed tokens.

    Args:
        tokens: without the end token, with which the writing may have stopped.
        logprobs: natural logarithm of each token's probability.
        position_rows: where attention was while each was written, in pooled frames from the
            utterance's start (`expected_rows`); empty where no alignment heads are known, and
            then agreement alone decides.
        num_rows: pooled frames that there are.
        ended: nothing follows, so all of it is committed.
        stopped: the writing stopped with the end token. Its last token, most often a full stop,
            then waits: a decoder that has closed a sentence hears nothing of what follows it.
    """

    tokens: Sequence[int]
    logprobs: Sequence[float]
    position_rows: Sequence[float]
    num_rows: int
    ended: bool = False
    stopped: bool = False


class Committer:
    """Decides for one utterance; keeps what the last update left uncommitted.

    Args:
        rule: when a token is settled.
        row_s: seconds of audio in one pooled frame.
    """

    def __init__(self, rule: CommitRule, row_s: float) -> None:
        self._rule = rule
        self._edge_rows = rule.edge_s / row_s
        self._patience_rows = rule.patience_s / row_s
        self._least_rows = rule.least_s / row_s
        self._before: tuple[tuple[int, ...], ...] = ()

    @property
    def tentative(self) -> tuple[int, ...]:
        """Tokens that the last update wrote and nobody committed: a good guess at the next one's."""
        return self._before[-1] if self._before else ()

    def at_edge(self, position_row: float, num_rows: int) -> bool:
        """Say whether attention has come to the end of the audio."""
        return position_row >= num_rows - self._edge_rows

    def commit(self, update: Update) -> int:
        """Give how many of an update's tokens to commit, from the first."""
        settled = len(update.tokens) if update.ended else self._settled(update)
        latest = (*self._before, tuple(update.tokens))[1 - self._rule.agreeing :]
        # One that began otherwise has nothing to say of what comes behind.
        begins = tuple(update.tokens[:settled])
        self._before = tuple(tokens[settled:] for tokens in latest if tokens[:settled] == begins)
        return settled

    def _settled(self, update: Update) -> int:
        if update.num_rows < self._least_rows:
            return 0
        watched = bool(update.position_rows)
        settled = self._sure(update)
        if update.stopped:
            settled = min(settled, max(0, len(update.tokens) - 1))
        if self._rule.method != "attention" or not watched:
            # A decoder is also sure of the beginning of a word: only behind the edge it counts.
            certain = self._certain(update) if watched and self._rule.method == "both" else 0
            settled = min(settled, max(self._agreed(update), certain))
        if self._rule.method != "agreement" and watched:
            early = [not self.at_edge(row, update.num_rows) for row in update.position_rows]
            settled = min(settled, early.index(False) if False in early else len(early))
        return settled

    def _agreed(self, update: Update) -> int:
        if len(self._before) < self._rule.agreeing - 1:
            return 0
        return min(_common_prefix(tokens, update.tokens) for tokens in self._before)

    def _certain(self, update: Update) -> int:
        doubtful = (
            n for n, logprob in enumerate(update.logprobs) if logprob < self._rule.sure_logprob
        )
        return next(doubtful, len(update.logprobs))

    def _sure(self, update: Update) -> int:
        rows = update.position_rows or [-np.inf] * len(update.tokens)
        for index, (logprob, row) in enumerate(zip(update.logprobs, rows, strict=True)):
            waited = row < update.num_rows - self._patience_rows
            if logprob < self._rule.min_logprob and not waited:
                return index
        return len(update.tokens)


def expected_rows(weights_HUP: np.ndarray) -> list[float]:
    """Give the pooled frame each token attends to: the mean over its heads' weights.

    Args:
        weights_HUP: H = alignment heads, U = tokens, P = pooled frames.
    """
    weights_UP = weights_HUP.mean(axis=0, dtype=np.float64)
    rows_U = weights_UP @ np.arange(weights_UP.shape[1]) / weights_UP.sum(axis=1)
    return rows_U.tolist()


def stable_words(words: Sequence[WordPiece], committed: int) -> int:
    """Count the words that no later token can change: a committed one begins the word after them.

    Args:
        words: of the committed tokens and those after them.
        committed: how many tokens, from the first, are committed.
    """
    begun = sum(word.start_token < committed for word in words)
    return max(0, begun - 1)


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    for index, (here, there) in enumerate(zip(one, other, strict=False)):
        if here != there:
            return index
    return min(len(one), len(other))
