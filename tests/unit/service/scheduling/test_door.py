"""When one more stream is refused although places are free."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.step_times import SPEECH_SCALE
from service.scheduling.door import NEW_S, Door
from service.scheduling.load_window import RoundSample
from service.scheduling.slack import StepProfile

SETPOINT_S = 0.3
CHUNK_S = 0.5
WINDOW_S = 3.0
FLOOR = StepProfile(4, 0.01, 0.02)
FULL = StepProfile(8, 0.01, 0.04)
CAPACITY = 23
"""Streams that never pause: 2 * 0.01 / (1 - 23 * 0.02 / 0.5) is under the set point, of 24 it is not."""


BURST = 8
"""Of whom nothing is known: speech takes longer than the profile says."""


def new_door() -> Door:
    return Door(
        [FULL, FLOOR],
        setpoint_s=SETPOINT_S,
        chunk_s=CHUNK_S,
        window_s=WINDOW_S,
        speech_scale=SPEECH_SCALE,
    )


@dataclass
class Ticking:
    """A door that is shown the same thing over and over."""

    door: Door = field(default_factory=new_door)
    now_s: float = 0.0

    def run(
        self,
        seconds: float,
        num_taken: int,
        *,
        latency_s: float = 0.1,
        at_floor: bool = True,
        duty: float = 1.0,
        slower: float = 1.0,
    ) -> Door:
        audio_s = CHUNK_S * num_taken * duty
        took_s = slower * (FLOOR.fixed_s + FLOOR.per_stream_s * audio_s / CHUNK_S)
        rounds = [RoundSample(0.0, took_s, (), audio_s, 4)] * round(WINDOW_S / CHUNK_S)
        for _ in range(round(seconds * 4)):
            self.now_s += 0.25
            self.door.tick(self.now_s, latency_s, rounds, at_floor=at_floor, num_taken=num_taken)
        return self.door


def test_an_empty_service_takes_a_stream_whatever_was_predicted() -> None:
    door = Door(
        [StepProfile(8, 10.0, 10.0)], setpoint_s=SETPOINT_S, chunk_s=CHUNK_S, window_s=WINDOW_S
    )

    assert not door.refuses(0)


def test_a_burst_is_taken_as_far_as_the_floor_carries_it() -> None:
    """Between two ticks: nothing of those who came was measured."""
    door, num_taken = new_door(), 0

    for _ in range(100):
        num_taken += not door.refuses(num_taken)

    assert num_taken == BURST


def test_streams_that_pause_leave_room_for_more_once_that_is_known() -> None:
    ticking = Ticking()

    ticking.run(60, 20, duty=0.5)

    assert not ticking.door.refuses(32)
    assert ticking.door.refuses(35)


def test_what_came_just_now_counts_in_full() -> None:
    ticking = Ticking()
    ticking.run(60, 20, duty=0.5)

    ticking.run(NEW_S / 2, 33, duty=0.5)

    assert ticking.door.refuses(34)


@pytest.mark.parametrize(("slower", "refused"), [(0.5, False), (1.0, False), (2.0, True)])
def test_a_profile_that_is_wrong_is_corrected(slower: float, *, refused: bool) -> None:
    assert Ticking().run(60, 15, slower=slower).refuses(15) == refused


def test_a_profile_that_is_too_dark_lets_more_in_after_a_while() -> None:
    assert not Ticking().run(60, 20, slower=0.5).refuses(CAPACITY + 10)


def test_latency_at_the_floor_shuts_the_door_after_a_second() -> None:
    ticking = Ticking()

    assert not ticking.run(0.75, 5, latency_s=0.5).refuses(5)
    assert ticking.run(1.0, 5, latency_s=0.5).refuses(5)
    assert ticking.door.late


def test_latency_above_the_floor_is_the_controllers_business() -> None:
    assert not Ticking().run(10, 5, latency_s=0.5, at_floor=False).refuses(5)


def test_the_door_opens_only_well_below_the_set_point() -> None:
    ticking = Ticking()
    ticking.run(5, 5, latency_s=0.5)

    assert ticking.run(5, 5, latency_s=0.95 * SETPOINT_S).refuses(5)
    assert not ticking.run(0.25, 5, latency_s=0.5 * SETPOINT_S).refuses(5)


def test_the_door_opens_when_everybody_has_left() -> None:
    ticking = Ticking()
    ticking.run(5, 5, latency_s=0.5)

    assert not ticking.run(0.25, 0, latency_s=0.5).refuses(0)


def test_one_late_reading_is_no_reason() -> None:
    ticking = Ticking()
    for _ in range(20):
        ticking.run(0.5, 5, latency_s=0.5)
        ticking.run(0.25, 5, latency_s=0.1)

    assert not ticking.door.refuses(5)


def test_once_full_it_takes_nobody_before_there_is_room_to_spare() -> None:
    door = new_door()
    assert door.refuses(BURST)

    assert not door.refuses(BURST - 1)


def test_what_few_have_shown_says_little_of_many() -> None:
    ticking = Ticking()

    ticking.run(60, 8)

    assert not ticking.door.refuses(15)
    assert ticking.door.refuses(16), "of twice as many nothing is known"
    assert not ticking.run(60, 15).refuses(16)


def test_without_profiles_latency_alone_decides() -> None:
    door = Door([], setpoint_s=SETPOINT_S, chunk_s=CHUNK_S, window_s=WINDOW_S)

    assert not Ticking(door).run(5, 1000).refuses(1000)
    assert Ticking(door).run(5, 1000, latency_s=1.0).refuses(1000)


@given(st.integers(0, 100), st.integers(0, 100), st.floats(0.3, 1), st.floats(0.3, 3))
def test_more_streams_never_wait_less(one: int, other: int, duty: float, slower: float) -> None:
    door = Ticking().run(10, 8, duty=duty, slower=slower)
    fewer, more = sorted((one, other))

    assert door.predicted_s(fewer) <= door.predicted_s(more)


@pytest.mark.parametrize("num_kept", [1, 3])
def test_room_that_is_kept_is_left_behind_and_no_more(num_kept: int) -> None:
    most = next(num for num in range(1, 200) if new_door().refuses(num))
    shared = next(num for num in range(1, 200) if new_door().refuses(num, num_kept))

    assert shared == most - num_kept


def test_who_is_refused_for_what_is_kept_shuts_the_door_for_nobody_else() -> None:
    door = new_door()
    most = next(num for num in range(1, 200) if new_door().refuses(num))

    assert door.refuses(most - 1, 2)
    assert not door.refuses(most - 1)


def test_streams_that_are_late_shut_the_door_for_all() -> None:
    door = Ticking().run(5, 5, latency_s=0.5)

    assert door.refuses(1)
    assert door.refuses(1, 2)
