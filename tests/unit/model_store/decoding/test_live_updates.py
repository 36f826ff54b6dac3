"""Updates of several transcripts, run together, and those that go on another time."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from model_store.decoding.live import Feed, LiveModel, LiveTranscript, Scored
from model_store.decoding.live_updates import bring_up_to_date
from model_store.text.agreement import CommitRule
from tests.transcript_kit import END, LIMIT, MOST, ROW_S, Decoder


@given(
    ended=st.lists(st.booleans(), min_size=1, max_size=4),
    texts=st.lists(st.lists(st.integers(1, 9), max_size=9), min_size=4, max_size=4),
    most_calls=st.integers(1, 5),
)
def test_finals_that_wait_say_what_they_would_have_said_at_once(
    ended: list[bool], texts: list[list[int]], most_calls: int
) -> None:
    def following(before: tuple[int, ...], _rows: int) -> int:
        text = texts[before[0]]
        return text[len(before) - 1] if len(before) <= len(text) else END

    def begun() -> list[LiveTranscript]:
        models = [LiveModel(prompt=(i,), end_token=END, row_s=ROW_S) for i in range(len(ended))]
        rule = CommitRule(most_tentative=LIMIT, most_fresh=LIMIT, least_s=0)
        return [LiveTranscript(model, rule) for model in models]

    def bring(those: list[LiveTranscript], decoder: Decoder, calls: int | None) -> None:
        counts = [MOST] * len(those)
        bring_up_to_date(those, [1] * len(those), counts, ended, decoder.call, calls)

    at_once, in_turns = begun(), begun()
    bring(at_once, Decoder(following, rows=1), None)
    decoder = Decoder(following, rows=1)
    bring(in_turns, decoder, most_calls)
    least = max([len(t) + 1 for t, end in zip(texts, ended, strict=False) if not end], default=0)

    assert len(decoder.batches) <= max(most_calls, least)
    partials = [one for one, end in zip(in_turns, ended, strict=True) if not end]
    assert all(one.feed is None for one in partials)
    while any(one.feed is not None for one in in_turns):
        waiting = [one if one.feed is not None else None for one in in_turns]
        before = len(decoder.batches)
        places = [i for i, one in enumerate(waiting) if one is not None]

        def call(wanted: Sequence[tuple[int, Feed]]) -> list[Scored]:
            return decoder.call([(places[i], feed) for i, feed in wanted])  # noqa: B023 called at once

        left = [in_turns[i] for i in places]
        rows = [1] * len(left)
        bring_up_to_date(left, rows, [MOST] * len(left), [True] * len(left), call, most_calls)
        assert len(decoder.batches) - before <= most_calls
    for one, other in zip(in_turns, at_once, strict=True):
        assert one.committed == other.committed
        assert one.calls == other.calls
