import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.streaming.track import Track, quietest_place


def track_of(*lengths: int) -> Track:
    track, at = Track(), 0
    for length in lengths:
        track.append(np.arange(at, at + length, dtype=np.float32))
        at += length
    return track


@given(
    st.lists(st.integers(0, 9), max_size=9),
    st.integers(0, 81),
    st.integers(0, 81),
    st.integers(0, 81),
)
def test_a_stretch_is_what_was_appended_there(
    lengths: list[int], first: int, second: int, forgotten: int
) -> None:
    track, total = track_of(*lengths), sum(lengths)
    start, end = sorted((first % (total + 1), second % (total + 1)))

    track.forget_before(min(forgotten, start))

    assert track.between(start, end).tolist() == list(range(start, end))
    assert track.end == total


def test_what_is_forgotten_is_let_go_of() -> None:
    track = track_of(10, 10, 10)

    track.forget_before(25)

    assert track.num_held == 10
    with pytest.raises(AssertionError, match="expected a stretch that is held"):
        track.between(15, 25)


def test_the_quietest_place_is_the_middle_of_the_pause() -> None:
    samples = np.full(16_000, 0.5, np.float32)
    samples[8_000:9_600] = 0.0

    assert quietest_place(samples) == pytest.approx(8_800, abs=320)


def test_of_equal_places_the_last_one_is_taken() -> None:
    assert quietest_place(np.zeros(16_000, np.float32)) > 15_000


def test_too_little_has_no_quiet_place() -> None:
    assert quietest_place(np.zeros(1_000, np.float32)) == 0
