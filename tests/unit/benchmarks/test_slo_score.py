from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.slo_score import Figures, TimedWords, collect, final_words, lags
from benchmarks.slo_sound import Clip, Script, Spoken
from benchmarks.slo_stream import Heard
from benchmarks.slo_summary import admission, keeps_up, promises, recovery_s, summarise

START_S = 100.0
ALL = (START_S, START_S + 1000.0)
SCRIPT = Script(b"", ())


def heard(num_packets: int, *told: tuple[float, dict[str, Any]]) -> Heard:
    return Heard(START_S, num_packets, [(START_S + at_s, message) for at_s, message in told])


def partial(text: str, end: float = 0.0, stable: str = "", utt: int = 0) -> dict[str, Any]:
    return {
        "type": "partial", "utt": utt, "start": 0.5, "end": end, "text": text,
        "stable_chars": len(stable),
    }  # fmt: skip


def final(text: str, end: float = 3.0, utt: int = 0, layers: float = 4.0) -> dict[str, Any]:
    words = [
        {"word": word, "start": 0.5 + 0.5 * i, "end": 0.9 + 0.5 * i}
        for i, word in enumerate(text.split())
    ]
    return {
        "type": "final", "utt": utt, "start": 0.5, "end": end, "text": text, "words": words,
        "layers": layers,
    }  # fmt: skip


def figures_of(*streams: Heard, window: tuple[float, float] = ALL) -> Figures:
    return collect(streams, [SCRIPT] * len(streams), window, {})


def test_a_packet_lags_until_the_first_message_that_covers_it_and_done_covers_all() -> None:
    one = heard(
        4,
        (0.5, {"type": "lag", "end": 0.2}),
        (0.7, {"type": "lag", "end": 0.25}),
        (0.9, {"type": "done", "audio_s": 0.4}),
    )

    assert lags(one) == pytest.approx([0.4, 0.3, 0.6, 0.5])


def test_only_packets_due_in_the_window_count() -> None:
    one = heard(20, (2.55, {"type": "lag", "end": 2.0}))

    figures = figures_of(one, window=(START_S + 1.0, START_S + 2.0))

    assert figures.offered_packets == figures.accepted_packets == 10
    assert figures.in_time_packets == 4
    assert figures.lag_s == pytest.approx([1.55 - 0.1 * place for place in range(10)])


def test_what_was_never_covered_is_late() -> None:
    told = summarise(figures_of(heard(10, (0.3, {"type": "lag", "end": 0.5}))))

    assert told["in_time_share"] == 0.5


def test_what_was_dropped_is_late_though_the_stream_went_on() -> None:
    dropped = {"type": "warning", "code": "audio_dropped", "start": 0.2, "end": 0.5}
    one = heard(10, (0.5, dropped), (0.6, {"type": "lag", "end": 1.0}))

    told = summarise(figures_of(one))

    assert told["in_time_share"] == 0.7
    assert told["dropped_s"] == 0.3


def test_audio_of_refused_streams_was_offered_and_not_accepted() -> None:
    taken, refused = heard(10, (0.5, {"type": "lag", "end": 1.0})), heard(10)
    refused.refused_s = 0.2

    told = summarise(figures_of(taken, refused))

    assert told["in_time_share"] == 1.0
    assert told["in_time_of_offered_share"] == 0.5
    assert admission([taken, refused])["refused"] == 1


@given(st.lists(st.floats(0, 5), max_size=8), st.integers(1, 60))
def test_no_more_audio_is_in_time_than_was_accepted(ends: list[float], num: int) -> None:
    told = [(float(i), {"type": "lag", "end": end}) for i, end in enumerate(ends)]

    figures = figures_of(heard(num, *told))

    assert 0 <= figures.in_time_packets <= figures.accepted_packets == num
    assert len(figures.lag_s) <= num


def test_first_words_count_if_the_first_one_stays() -> None:
    kept = heard(
        40, (1.5, partial("the")), (2.0, partial("the fox")), (3.4, final("The foxes")),
    )  # fmt: skip
    lost = heard(40, (1.5, partial("a")), (3.4, final("The foxes")))

    figures = figures_of(kept, lost)

    assert figures.first_partial_s == pytest.approx([1.0])
    assert figures.first_words_taken_back == 1


def test_partials_of_one_utterance_have_an_interval_and_changed_words() -> None:
    one = heard(
        90,
        (1.0, partial("one two")),
        (1.6, partial("one tool three")),
        (4.0, partial("four", utt=1)),
        (4.9, partial("four", utt=1)),
    )

    figures = figures_of(one)

    assert figures.partial_interval_s == pytest.approx([0.6, 0.9])
    assert figures.changed_words == [1, 0]


def test_depth_is_weighed_by_length_and_changes_are_counted_per_stream() -> None:
    depth = {"type": "depth", "layers": 4.0}
    one = heard(90, (1.0, depth), (2.0, depth), (3.4, final("a", end=1.5, layers=8.0)))
    two = heard(90, (3.4, final("a", end=3.5, layers=2.0)))

    told = summarise(figures_of(one, two))

    assert told["mean_layers"] == pytest.approx((8.0 * 1 + 2.0 * 3) / 4)
    assert told["depth_changes"] == {"all": 2, "most_of_a_stream": 2}


def test_a_word_is_settled_when_the_prefix_that_stays_holds_it() -> None:
    one = heard(
        90,
        (1.0, partial("the quick", stable="the")),
        (1.6, partial("the quick brown", stable="the quick")),
        (3.4, final("the quick brown")),
    )

    found = [(word.text, round(word.settled_s, 3)) for word in final_words(one)]

    assert found == [("the", 1.0), ("quick", 1.6), ("brown", 3.4)]


def test_a_final_that_says_another_word_settles_it_itself() -> None:
    one = heard(90, (1.0, partial("the quack", stable="the quack")), (3.4, final("the quick")))

    assert [word.settled_s for word in final_words(one)] == pytest.approx([1.0, 3.4])


def clip(reference: str) -> Clip:
    return Clip(f"set/{reference}", np.zeros(16_000, np.float32), reference)


def test_words_are_scored_against_the_clip_that_was_spoken_then() -> None:
    script = Script(
        b"", (Spoken(clip("one two"), 0.4, 1.6), Spoken(clip("three"), 2.6, 3.4))
    )  # fmt: skip
    one = heard(
        90,
        (1.9, final("one too", end=2.0)),
        (3.9, {**final("three", utt=1), "words": [{"word": "three", "start": 2.7, "end": 3.2}]}),
    )
    timed: dict[str, TimedWords] = {"set/one two": [("one", 0.5), ("two", 1.0)]}

    figures = collect([one], [script], ALL, timed)

    assert [errors.errors for errors in figures.errors] == [1, 0]
    assert figures.words_to_settle == 2
    assert figures.stable_s == pytest.approx([1.9 - (0.4 + 0.5)])


def test_clips_that_a_window_cuts_are_not_scored() -> None:
    script = Script(b"", (Spoken(clip("one"), 0.4, 1.6), Spoken(clip("two"), 2.6, 3.4)))

    figures = collect([heard(90)], [script], (START_S + 1.0, START_S + 4.0), {})

    assert [errors.reference_words for errors in figures.errors] == [1]
    assert summarise(figures)["wer"] == 1.0


def test_an_empty_window_has_figures_without_a_value() -> None:
    told = summarise(Figures())

    assert told["in_time_share"] is told["lag_s"] is told["wer"] is told["mean_layers"] is None
    assert promises(told) == {"lag": None, "partial_interval": None, "stable_words": None}


def test_promises_are_judged_at_their_limits() -> None:
    good = {"in_time_share": 0.99, "partial_interval_s": {"p95": 1.0}, "stable_share": 0.9}
    bad = {"in_time_share": 0.98, "partial_interval_s": {"p95": 1.1}, "stable_share": 0.89}

    assert set(promises(dict(good)).values()) == {True}
    assert set(promises(dict(bad)).values()) == {False}


@pytest.mark.parametrize(
    ("lag_s", "dropped_s", "error", "kept"),
    [(0.9, 0.0, "", True), (1.1, 0.0, "", False), (0.9, 0.1, "", False), (0.9, 0.0, "1011", False)],
)
def test_a_depth_keeps_up_without_lag_loss_or_fault(
    lag_s: float, dropped_s: float, error: str, *, kept: bool
) -> None:
    one = heard(10)
    one.errors += [error] if error else []

    assert keeps_up({"lag_s": {"p95": lag_s}, "dropped_s": dropped_s}, [one]) is kept


def ready(layers: float) -> dict[str, Any]:
    return {"type": "ready", "layers": layers, "layers_total": 8}


def test_a_load_has_passed_when_the_last_stream_is_at_full_depth_for_good() -> None:
    quick = heard(900, (0.0, ready(8.0)))
    slow = heard(
        900,
        (0.0, ready(8.0)),
        (5.0, {"type": "depth", "layers": 2.0}),
        (32.0, {"type": "depth", "layers": 4.0}),
        (41.5, {"type": "depth", "layers": 8.0}),
    )

    assert recovery_s([quick], START_S + 30) == 0.0
    assert recovery_s([quick, slow], START_S + 30) == pytest.approx(11.5)


def test_a_stream_that_stays_shallow_has_not_recovered() -> None:
    shallow = heard(900, (0.0, ready(8.0)), (5.0, {"type": "depth", "layers": 2.0}))

    assert recovery_s([shallow], START_S + 30) is None
    assert recovery_s([heard(900)], START_S + 30) is None
