"""Streams that come all at once: depth is given up before their chunks are late, and comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.brownout import Brownout
from service.scheduling.controller import Damping, Reading
from service.scheduling.door import NEW_S, Door
from service.scheduling.levels import DepthLevel
from service.scheduling.load_window import RoundSample
from service.scheduling.slack import StepProfile
from tests.controller_kit import LEVELS, SETPOINT_S, TICK_S, new_controller

CHUNK_S = 0.5
PROFILES = [StepProfile(8, 0.01, 0.04), StepProfile(6, 0.01, 0.03), StepProfile(4, 0.01, 0.02)]
"""Eleven, fifteen and twenty-two streams that never pause keep the engine busy for 0.9 of the time."""


def door_of(*counts: int) -> Door:
    """A door that saw so many streams, a tick each; the first of them for long enough to be old."""
    door = Door(PROFILES, setpoint_s=SETPOINT_S, chunk_s=CHUNK_S, window_s=3.0)
    seen = [counts[0]] * round(2 * NEW_S / TICK_S) + list(counts[1:])
    for index, count in enumerate(seen):
        door.tick(index * TICK_S, 0.0, (), at_floor=False, num_taken=count)
    return door


@pytest.mark.parametrize(
    ("counts", "level"),
    [
        ((0, 11), 0),
        ((0, 12), 1),
        ((0, 16), 2),
        ((0, 100), 2),
        ((12, 18), 0),
        ((12, 19), 2),
        ((100, 100), 0),
        ((100, 1), 0),
    ],
)
def test_the_level_that_carries_a_burst_is_foreseen(counts: tuple[int, ...], level: int) -> None:
    assert door_of(*counts).foreseen() == level


def test_a_burst_is_answered_once_and_anew_when_it_grows() -> None:
    door = door_of(0, 12)
    assert [door.foreseen(), door.foreseen()] == [1, 0]

    door.tick(100.0, 0.0, (), at_floor=False, num_taken=12)
    assert door.foreseen() == 0, "five seconds on it is no burst"
    door.tick(100.25, 0.0, (), at_floor=False, num_taken=30)
    assert door.foreseen() == 2


def test_nothing_is_foreseen_without_profiles_or_streams() -> None:
    door = Door([], setpoint_s=SETPOINT_S, chunk_s=CHUNK_S, window_s=3.0)
    assert door.foreseen() == 0

    door.tick(0.0, 0.0, (), at_floor=False, num_taken=0)
    door.tick(0.25, 0.0, (), at_floor=False, num_taken=50)
    assert door.foreseen() == 0


def test_what_is_foreseen_is_given_up_at_once_and_everything_cheaper_with_it() -> None:
    controller = new_controller()

    decision = controller.foresee(3, Reading(0.0, 0.0, 0, 0))

    assert decision is not None
    assert (decision.reason, decision.from_layers, decision.to_layers) == ("burst", 8, 5)
    assert controller.level == LEVELS[3]
    assert controller.strained
    assert list(controller.decisions) == [decision]


@given(st.integers(0, len(LEVELS) - 1), st.integers(0, len(LEVELS) - 1))
def test_a_burst_never_gives_depth_back(there: int, foreseen: int) -> None:
    controller = new_controller()
    controller.foresee(there, Reading(0.0, 0.0, 0, 0))

    decision = controller.foresee(foreseen, Reading(TICK_S, 0.0, 0, 0))

    assert LEVELS.index(controller.level) == max(there, foreseen)
    assert (decision is None) == (foreseen <= there)


@pytest.mark.parametrize(
    ("streams", "requested", "level"),
    [
        (12, [], 0),
        (13, [], 1),
        (16, [], 1),
        (17, [], 2),
        (100, [], 2),
        (16, [4.0] * 8, 0),
        (19, [4.0] * 8, 1),
        (20, [4.0] * 8, 2),
        (13, [8.0] * 13, 2),
    ],
)
def test_the_deepest_level_that_may_carry_the_streams_there_are(
    streams: int, requested: list[float], level: int
) -> None:
    assert door_of(streams).deepest_carried(requested) == level


def test_who_is_silent_at_a_depth_of_his_own_takes_nothing() -> None:
    assert door_of(12).deepest_carried([8.0] * 100, num_open=112) == 0
    assert door_of(16).deepest_carried([4.0] * 50, num_open=100) == 0, "half of those who speak"


def test_streams_that_pause_are_carried_at_more_depth() -> None:
    door = door_of(20)
    assert door.deepest_carried() == 2
    for _ in range(200):  # half of them speak, and steps take what the profile says
        took_s = 0.01 + 0.04 * 10
        door.tick(
            99.0,
            0.0,
            [RoundSample(0, took_s, (), 10 * CHUNK_S, 8)] * 6,
            at_floor=False,
            num_taken=20,
        )
    assert door.deepest_carried() == 0


def test_without_profiles_or_streams_every_level_may_do() -> None:
    empty = Door([], setpoint_s=SETPOINT_S, chunk_s=CHUNK_S, window_s=3.0)
    assert empty.deepest_carried([4.0]) == 0
    empty.tick(0.0, 0.0, (), at_floor=False, num_taken=50)
    assert empty.deepest_carried([4.0]) == 0
    assert (
        Door(PROFILES, setpoint_s=SETPOINT_S, chunk_s=CHUNK_S, window_s=3.0).deepest_carried() == 0
    )


@given(st.integers(0, len(LEVELS) - 1), st.integers(0, len(LEVELS) - 1))
def test_no_level_is_risen_to_that_is_certainly_not_carried(there: int, deepest: int) -> None:
    controller = new_controller()
    controller.foresee(there, Reading(0.0, 0.0, 0, 0))
    for tick in range(1, 400):  # latency says that there is room
        controller.tick(Reading(tick * TICK_S, 0.1 * SETPOINT_S, 20, 20, 0.7), deepest=deepest)

    assert LEVELS.index(controller.level) == min(there, deepest)


def test_a_rise_soon_after_a_burst_that_fails_is_the_last_for_minutes() -> None:
    """The demand is averaged over seconds, but that it came at once is known."""
    controller = new_controller()
    controller.tick(Reading(0.0, 0.05, 6, 6, 0.7))
    controller.foresee(3, Reading(TICK_S, 0.05, 36, 36, 0.7))
    now_s = TICK_S
    while now_s < 200:
        now_s += TICK_S
        late = controller.level.layers > 5
        reading = Reading(now_s, 3 * SETPOINT_S if late else 0.1 * SETPOINT_S, 36, 36)
        controller.tick(reading, in_burst=now_s < NEW_S)

    assert [one.reason for one in controller.decisions] == ["burst", "recovery", "overload"]


def seconds_to_full_depth(*, in_burst: bool) -> float:
    """A burst whose first chunks are late, and that the engine then carries easily."""
    controller = new_controller()
    now_s = 0.0
    while now_s < 600:
        now_s += TICK_S
        latency_s = 1.5 if now_s < 4 else 0.4 * SETPOINT_S
        reading = Reading(now_s, latency_s, 20, 20, 0.7)
        controller.tick(reading, in_burst=in_burst and now_s < NEW_S)
        if now_s > 4 and controller.level == LEVELS[0]:
            break
    assert controller.decisions, "the burst has to cost depth, or it shows nothing"
    return now_s


def test_depth_that_first_chunks_cost_comes_back_without_waiting_for_a_load_to_end() -> None:
    assert seconds_to_full_depth(in_burst=True) < 60
    assert seconds_to_full_depth(in_burst=False) > Damping().failed_hold_s


def test_a_burst_that_is_there_to_stay_is_tried_once_and_then_left_alone() -> None:
    """Depth comes back as far as it can be had, and the rise that fails is the last for minutes."""
    controller = new_controller()
    controller.foresee(len(LEVELS) - 1, Reading(0.0, 0.0, 0, 0))
    changes: list[float] = []
    now_s = 0.0
    while now_s < 300:
        now_s += TICK_S
        carried = controller.level.layers <= 5
        reading = Reading(now_s, 0.5 * SETPOINT_S if carried else 2 * SETPOINT_S, 20, 20)
        if controller.tick(reading, in_burst=now_s < NEW_S):
            changes.append(now_s)

    assert controller.level.layers == 5
    assert len(changes) == 4, "3 -> 4 -> 5 -> 6 -> 5"
    assert changes[-1] < 120


def test_half_depth_at_rest_is_held_where_full_depth_would_be_load() -> None:
    """Full depth costs twice: an engine busy for 0.36 of its time at half of it is not at rest."""
    levels = (DepthLevel(8, 0.0, 1.0, cost=1.0), DepthLevel(4, 0.5, 1.2, cost=0.5))
    law = Brownout(setpoint_s=SETPOINT_S, floor=0.5)
    controller = new_controller(law, levels)
    now_s, changes = 0.0, 0
    while now_s < 300:  # streams whose chunks meet now and then, at constant load
        now_s += TICK_S
        deep = controller.level == levels[0]
        met = now_s % 30 < 5
        latency_s = (2 * SETPOINT_S if met else 0.5 * SETPOINT_S) if deep else 0.2 * SETPOINT_S
        reading = Reading(now_s, latency_s, 9, 9, 0.72 if deep else 0.36)
        changes += controller.tick(reading) is not None

    assert changes <= 3
    for _ in range(60):  # they go
        now_s += TICK_S
        controller.tick(Reading(now_s, 0.05, 3, 3, 0.12))
    assert controller.level == levels[0]
