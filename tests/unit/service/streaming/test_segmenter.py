import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.base import GATE_FRAME_SAMPLES as FRAME
from service.streaming.segmenter import LEAD_SAMPLES, Offset, Onset, Segmenter

PROBABILITIES = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.9]), max_size=200)


def segmenter_of(endpointing_s: float) -> Segmenter:
    return Segmenter(endpointing_s, 100 * FRAME)


def pushed(segmenter: Segmenter, *runs: tuple[int, float]) -> list[Onset | Offset]:
    """Push runs of frames: (how many, probability)."""
    frames = [np.full(count, probability, np.float32) for count, probability in runs]
    return segmenter.push(np.concatenate(frames))


def test_speech_begins_a_lead_before_its_first_frame() -> None:
    events = pushed(segmenter_of(0.5), (20, 0.0), (3, 0.9))

    assert events == [Onset(20 * FRAME - LEAD_SAMPLES, 20 * FRAME)]


def test_no_utterance_begins_before_the_stream_does() -> None:
    assert pushed(segmenter_of(0.5), (3, 0.9)) == [Onset(0, 0)]


@pytest.mark.parametrize("frames", [1, 2])
def test_a_knock_is_no_speech(frames: int) -> None:
    assert pushed(segmenter_of(0.5), (20, 0.0), (frames, 0.9), (20, 0.0)) == []


def test_a_dip_shorter_than_a_stop_consonant_is_part_of_the_onset() -> None:
    events = pushed(segmenter_of(0.5), (20, 0.0), (2, 0.9), (3, 0.0), (1, 0.9))

    assert events == [Onset(20 * FRAME - LEAD_SAMPLES, 20 * FRAME)]


def test_a_longer_dip_begins_anew() -> None:
    assert pushed(segmenter_of(0.5), (20, 0.0), (2, 0.9), (5, 0.0), (2, 0.9)) == []


def test_silence_of_the_length_asked_for_ends_the_utterance() -> None:
    events = pushed(segmenter_of(0.5), (10, 0.9), (15, 0.0))
    assert events == [Onset(0, 0)]

    later = segmenter_of(0.5)
    assert pushed(later, (10, 0.9), (16, 0.0))[1:] == [Offset(10 * FRAME, 26 * FRAME)]
    assert not later.speaking


def test_frames_that_hold_keep_an_utterance_open() -> None:
    segmenter = segmenter_of(0.5)

    assert pushed(segmenter, (10, 0.9), (15, 0.0), (1, 0.4), (15, 0.0)) == [Onset(0, 0)]
    assert segmenter.voice_end == 26 * FRAME


def test_the_length_of_the_silence_may_be_changed_on_the_way() -> None:
    segmenter = segmenter_of(5.0)
    pushed(segmenter, (10, 0.9), (30, 0.0))

    segmenter.endpointing_s = 0.5

    assert pushed(segmenter, (1, 0.0)) == [Offset(10 * FRAME, 41 * FRAME)]


def test_an_utterance_closed_by_force_is_not_reached_into_by_the_next() -> None:
    segmenter = segmenter_of(0.5)
    pushed(segmenter, (10, 0.9))

    assert segmenter.close(9 * FRAME + 100) == Offset(9 * FRAME + 100, 9 * FRAME + 100)
    assert pushed(segmenter, (3, 0.9)) == [Onset(10 * FRAME - FRAME + 100, 10 * FRAME)]


def test_closing_silence_does_nothing() -> None:
    assert segmenter_of(0.5).close(0) is None


def test_a_possible_onset_is_not_yet_silence() -> None:
    segmenter = segmenter_of(0.5)

    pushed(segmenter, (20, 0.0), (2, 0.9))

    assert segmenter.silent_until == 20 * FRAME
    assert segmenter.heard == 22 * FRAME


@given(PROBABILITIES, st.lists(st.integers(0, 200), max_size=8))
def test_events_do_not_depend_on_the_cut(frames: list[float], places: list[int]) -> None:
    whole = segmenter_of(0.3).push(np.array(frames, np.float32))
    pieces, parts = segmenter_of(0.3), np.split(np.array(frames, np.float32), sorted(places))

    assert [event for part in parts for event in pieces.push(part)] == whole


@given(PROBABILITIES)
def test_utterances_follow_each_other_without_overlap(frames: list[float]) -> None:
    events = segmenter_of(0.1).push(np.array(frames, np.float32))

    kinds = [type(event) for event in events]
    assert kinds == [Onset, Offset] * (len(kinds) // 2) + [Onset] * (len(kinds) % 2)
    places = [
        place
        for event in events
        for place in (
            (event.start, event.voice_start)
            if isinstance(event, Onset)
            else (event.voice_end, event.end)
        )
    ]
    assert places == sorted(places)


def test_a_pause_is_enough_to_end_what_is_long() -> None:
    segmenter = segmenter_of(0.5)

    assert pushed(segmenter, (60, 0.9), (4, 0.0), (36, 0.9)) == [Onset(0, 0)]
    assert pushed(segmenter, (3, 0.0), (1, 0.9)) == []
    assert pushed(segmenter, (4, 0.0)) == [Offset(104 * FRAME, 108 * FRAME, hurried=True)]


def test_what_goes_on_behind_a_cut_is_not_long() -> None:
    segmenter = segmenter_of(0.5)
    pushed(segmenter, (120, 0.9))

    segmenter.restart(110 * FRAME)

    assert pushed(segmenter, (4, 0.0)) == []
