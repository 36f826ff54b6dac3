"""One live transcript over a decoder that is a function of what it was fed."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.decoding import live
from model_store.decoding.live import Feed, LiveModel, LiveTranscript, Scored
from model_store.decoding.live_updates import write
from model_store.text.agreement import CommitRule, Method
from tests.transcript_kit import END, LIMIT, MOST, PROMPT, ROW_S, Decoder, Next


def transcript(method: Method = "agreement", *, reuse: bool = True) -> LiveTranscript:
    model = LiveModel(prompt=PROMPT, end_token=END, row_s=ROW_S, reuse=reuse)
    return LiveTranscript(
        model,
        CommitRule(
            method=method,
            agreeing=2,
            edge_s=0.35,
            most_tentative=LIMIT,
            most_fresh=LIMIT,
            least_s=0,
        ),
    )


def update(
    one: LiveTranscript, decoder: Decoder, rows: int, *, most: int = MOST, ended: bool = False
) -> list[int]:
    decoder.rows = rows
    one.open_update(rows, most, ended=ended)
    write([one], decoder.call)
    one.close_update(ended=ended)
    return one.committed.tokens + one.tentative.tokens


def spelling(*texts: Sequence[int]) -> Next:
    """Say the n-th text over n pooled frames, whatever was written before."""

    def following(before: tuple[int, ...], rows: int) -> int:
        text = (*texts[rows - 1], END)
        return text[min(len(before) - 1, len(text) - 1)]

    return following


def greedy(following: Next, before: list[int], rows: int, limit: int) -> list[int]:
    tokens = list(before)
    while len(tokens) < limit:
        token = following((*PROMPT, *tokens), rows)
        if token == END:
            break
        tokens.append(token)
    return tokens


@pytest.mark.parametrize("reuse", [True, False])
@given(seed=st.integers(0, 10_000), updates=st.integers(1, 6), size=st.integers(2, 4))
def test_an_update_writes_what_the_decoder_would_say_token_by_token(
    reuse: bool, seed: int, updates: int, size: int
) -> None:
    def following(before: tuple[int, ...], rows: int) -> int:
        return hash((seed, before, rows // 2)) % size

    one, decoder = transcript(reuse=reuse), Decoder(following)
    for rows in range(1, updates + 1):
        settled = list(one.committed.tokens)
        limit = min(MOST, len(settled) + LIMIT)

        written = update(one, decoder, rows)

        assert written == greedy(following, settled, rows, limit)
        assert written[: len(settled)] == settled
        assert len(one.committed.tokens) >= len(settled)


@given(seed=st.integers(0, 10_000), updates=st.integers(0, 4))
def test_at_the_end_all_is_committed_up_to_the_end_token_or_the_limit(
    seed: int, updates: int
) -> None:
    def following(before: tuple[int, ...], rows: int) -> int:
        return hash((seed, before, rows)) % 5

    one, decoder = transcript(), Decoder(following)
    for rows in range(1, updates + 1):
        update(one, decoder, rows)
    settled = list(one.committed.tokens)

    written = update(one, decoder, updates + 1, ended=True)

    assert one.tentative.tokens == []
    assert one.hypothesis().tokens == written == greedy(following, settled, updates + 1, MOST)
    assert one.hypothesis().ended == (len(written) < MOST)


def test_what_still_holds_is_checked_in_one_call() -> None:
    decoder = Decoder(spelling([1, 2, 3, 4], [1, 2, 3, 4, 5]))
    one = transcript("attention")  # nothing is watched, so agreement decides
    update(one, decoder, 1)
    decoder.batches.clear()

    update(one, decoder, 2)

    # Four words hold and the fifth comes with them; one more call hears the end.
    assert len(decoder.batches) == 2
    assert one.committed.tokens == [1, 2, 3, 4]
    assert one.tentative.tokens == [5]


@pytest.mark.parametrize("piece", [1, 2, 3])
@given(
    seed=st.integers(0, 10_000),
    fresh=st.integers(1, LIMIT),
    expected=st.lists(st.integers(1, 3), max_size=8),
)
def test_a_guess_may_be_fed_in_pieces(
    piece: int, seed: int, fresh: int, expected: list[int]
) -> None:
    """What is written, and where an update leaves the rest to the next one, stay the same."""

    def following(before: tuple[int, ...], rows: int) -> int:
        return hash((seed, before, rows // 3)) % 4

    def written(piece: int) -> list[list[int]]:
        one = LiveTranscript(
            LiveModel(prompt=PROMPT, end_token=END, row_s=ROW_S),
            CommitRule(method="agreement", most_tentative=LIMIT, most_fresh=fresh, least_s=0),
        )
        decoder = Decoder(following)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(live, "MOST_DRAFT", piece)
            told = [update(one, decoder, rows) for rows in range(1, 6)]
            one.expect(expected)
            return [*told, update(one, decoder, 6, ended=True)]

    assert written(piece) == written(100)


def test_what_closes_the_text_is_not_committed_before_the_end() -> None:
    decoder = Decoder(spelling([1, 2], [1, 2], [1, 2]))
    one = transcript()
    update(one, decoder, 1)

    update(one, decoder, 2)
    before = list(one.committed.tokens)
    update(one, decoder, 3, ended=True)

    assert before == [1]
    assert one.committed.tokens == [1, 2]


def test_what_no_longer_holds_is_taken_back_from_the_cache() -> None:
    decoder = Decoder(spelling([1, 2, 3, 4], [1, 7, 8]))
    one = transcript()
    update(one, decoder, 1)

    update(one, decoder, 2)

    assert one.committed.tokens == [1]
    assert one.tentative.tokens == [7, 8]
    assert decoder.cached[0] == (*PROMPT, 1, 7, 8)


def test_the_end_token_means_nothing_before_the_end() -> None:
    decoder = Decoder(spelling([1], [1], [1, 2]))
    one = transcript()
    update(one, decoder, 1)
    update(one, decoder, 2)

    written = update(one, decoder, 3, ended=True)

    assert written == [1, 2]
    assert one.hypothesis().ended


def test_transcripts_are_written_side_by_side_until_each_is_done() -> None:
    decoder = Decoder(spelling([1, 2, 3]), rows=1)
    pair = [transcript(), transcript()]
    for one, most in zip(pair, (2, 10), strict=True):
        one.open_update(1, most, ended=True)

    write(pair, decoder.call)

    for one in pair:
        one.close_update(ended=True)
    assert [one.committed.tokens for one in pair] == [[1, 2], [1, 2, 3]]
    assert decoder.batches == [2, 2, 1, 1]


def test_a_loop_is_not_committed() -> None:
    decoder = Decoder(lambda before, _rows: 5 + len(before) % 3 if len(before) > 2 else 1)

    def stuck(wanted: Sequence[tuple[int, Feed]]) -> list[Scored]:
        found: list[Scored] = []
        for scored in decoder.call(wanted):
            weights_HSP = np.zeros((1, len(scored.tokens), 20), np.float32)
            weights_HSP[:, :, 2] = 1.0
            found.append(Scored(scored.tokens, scored.logprobs, weights_HSP))
        return found

    one = transcript("attention")
    decoder.rows = 20
    one.open_update(20, MOST, ended=False)

    write([one], stuck)
    one.close_update(ended=False)

    assert len(one.committed.tokens) < 2 + 6


def test_attention_at_the_edge_holds_a_token_back() -> None:
    decoder = Decoder(spelling(*[[1, 2, 3, 4, 5]] * 10), watched=True)
    one = transcript("attention")

    update(one, decoder, 5)

    # The token written after n others looks at row n; the last 0.35 s begin in row 1.
    assert one.committed.tokens == [1, 2]
    assert one.tentative.tokens == [3]


def test_nothing_is_written_behind_the_first_token_at_the_edge_before_the_end() -> None:
    one = transcript("both")
    decoder = Decoder(spelling(*[range(10, 22)] * 12), watched=True)
    # Of ten rows the edge begins in row 7, so the eighth token is the last; of twelve in row 9.
    assert update(one, decoder, 10) == list(range(10, 18))
    assert update(one, decoder, 12) == list(range(10, 20))
    assert update(one, decoder, 12, ended=True) == list(range(10, 22))


def test_an_update_leaves_what_is_too_much_for_it_to_the_next() -> None:
    model = LiveModel(prompt=PROMPT, end_token=END, row_s=ROW_S)
    one = LiveTranscript(model, CommitRule(method="agreement", agreeing=2, most_fresh=3, least_s=0))
    text = list(range(10, 22))
    decoder = Decoder(spelling(*[text] * 12))

    assert update(one, decoder, 10) == text[:3]
    assert update(one, decoder, 11) == text[:6]
    assert decoder.batches == [1] * 6, "what was written before is checked in one call"
    assert update(one, decoder, 12, ended=True) == text


def test_weights_of_earlier_updates_are_completed_with_nothing() -> None:
    decoder = Decoder(spelling(*[[1, 2, 3]] * 10), watched=True)
    one = transcript("attention")
    update(one, decoder, 5)

    update(one, decoder, 8, ended=True)

    weights_HUP = one.hypothesis().weights_HUP
    assert weights_HUP is not None
    assert weights_HUP.shape == (2, 4, 8)  # the end token's come last
    assert np.allclose(weights_HUP.sum(-1), 1)
    assert weights_HUP.argmax(-1)[0].tolist() == [0, 1, 2, 3]


def test_a_transcript_at_its_limit_writes_no_more() -> None:
    decoder = Decoder(spelling(*[[1, 2, 3, 4]] * 4))
    one = transcript()
    update(one, decoder, 1, most=2)
    update(one, decoder, 2, most=2)
    decoder.batches.clear()

    written = update(one, decoder, 3, most=2)

    assert written == [1, 2]
    assert decoder.batches == []
    assert not one.hypothesis().ended


def test_the_committed_are_fed_anew_where_nothing_is_reused() -> None:
    decoder = Decoder(spelling(*[[1, 2, 3]] * 4))
    one = transcript(reuse=False)
    update(one, decoder, 1)
    update(one, decoder, 2)

    one.open_update(3, MOST, ended=False)

    assert one.feed == Feed(0, (*PROMPT, 1, 2, 3), 2)  # the third waits, as it closed the text


def test_kept_weights_count_as_state() -> None:
    decoder = Decoder(spelling(*[[1, 2, 3]] * 5), watched=True)
    one = transcript()

    update(one, decoder, 5)

    assert one.num_bytes == 3 * 2 * 5 * 4


Told = tuple[int, float, int]
"""A token, the logarithm of its probability, the row that attention is at."""


def deaf(
    continuation: Sequence[Told], first_row: int = 0
) -> Callable[[Sequence[tuple[int, Feed]]], list[Scored]]:
    """Hear the end after two tokens of much audio, unless made to go on."""
    cached: list[int] = []

    def told(written: int) -> tuple[Told, tuple[int, float]]:
        if written < 2:
            return (written + 1, -0.1, first_row + written), (9, -5.0)
        if written == 2:
            token, logprob, row = continuation[0]
            return (END, -0.3, row), (token, logprob)
        rest = continuation[written - 2 :]
        return rest[0] if rest else (END, -0.2, 49), (9, -5.0)

    def call(wanted: Sequence[tuple[int, Feed]]) -> list[Scored]:
        ((_, feed),) = wanted
        cached[feed.kept_tokens :] = feed.tokens
        places = range(len(cached) - feed.num_scored, len(cached))
        best, others = zip(*(told(place) for place in places), strict=True)
        weights_HSP = np.zeros((1, feed.num_scored, 50), np.float32)
        for place, (_token, _logprob, row) in enumerate(best):
            weights_HSP[0, place, row] = 1.0
        return [
            Scored(
                [token for token, _, _ in best],
                [logprob for _, logprob, _ in best],
                weights_HSP,
                [token for token, _ in others],
                [logprob for _, logprob in others],
            )
        ]

    return call


@pytest.mark.parametrize(
    ("continuation", "said"),
    [
        ([(3, -0.5, 20), (4, -0.2, 30), (5, -0.1, 40)], [1, 2, 3, 4, 5]),
        ([(3, -3.0, 20), (4, -2.0, 30)], [1, 2]),
        ([(3, -0.1, 20)], [1, 2]),
        ([(3, -0.1, 0), (4, -0.1, 0)], [1, 2]),
    ],
    ids=["likely and moves on", "unlikely", "too short", "stays where it was"],
)
def test_an_end_with_much_audio_behind_it_is_doubted_once(
    continuation: Sequence[Told], said: list[int]
) -> None:
    one = transcript("attention")
    one.open_update(50, MOST, ended=True)

    write([one], deaf(continuation))
    one.close_update(ended=True)

    assert one.committed.tokens == said
    assert one.hypothesis().ended
    weights_HUP = one.hypothesis().weights_HUP
    assert weights_HUP is not None
    assert weights_HUP.shape == (1, len(said) + 1, 50)


def test_an_end_near_the_end_of_the_audio_is_believed() -> None:
    one = transcript("attention")
    one.open_update(50, MOST, ended=True)

    write([one], deaf([(3, -0.1, 45), (4, -0.1, 48)], first_row=40))
    one.close_update(ended=True)

    assert one.committed.tokens == [1, 2]
    assert one.hypothesis().end_logprob == -0.3
