"""The laws that turn a dimmer, on readings that are made up."""

from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.brownout import Brownout
from service.scheduling.controller import Reading
from service.scheduling.slack import Slack, StepProfile

SETPOINT_S = 0.3
TICK_S = 0.25
CHUNK_S = 0.5
FLOOR = 3 / 8

readings = st.builds(
    Reading,
    at_s=st.just(0.0),
    latency_s=st.floats(0, 1e6),
    samples=st.integers(0, 1000),
    num_streams=st.integers(0, 10_000),
    busy_ratio=st.floats(0, 1),
)


def new_brownout(pole: float = 0.9) -> Brownout:
    return Brownout(setpoint_s=SETPOINT_S, floor=FLOOR, pole=pole)


@given(st.lists(readings, max_size=60), st.floats(0.01, 0.999), st.floats(FLOOR, 1.0))
def test_brownout_stays_between_floor_and_ceiling(
    sequence: list[Reading], pole: float, ceiling: float
) -> None:
    law = new_brownout(pole)

    for reading in sequence:
        assert FLOOR <= law.next_dimmer(reading, ceiling) <= ceiling


@given(st.lists(readings, max_size=30), st.floats(0, 5), st.floats(0, 5))
def test_brownout_answers_more_latency_with_no_more_depth(
    before: list[Reading], one_s: float, other_s: float
) -> None:
    def after(latency_s: float) -> float:
        law = new_brownout()
        for reading in before:
            law.next_dimmer(reading)
        return law.next_dimmer(Reading(0.0, latency_s, 10, 10))

    less_s, more_s = sorted((one_s, other_s))
    assert after(more_s) <= after(less_s) + 1e-9 or less_s > SETPOINT_S * (1 - 0.2)


@given(st.floats(SETPOINT_S * 1.01, 100), st.floats(SETPOINT_S * 1.01, 100))
def test_brownout_falls_further_the_later_it_is(one_s: float, other_s: float) -> None:
    falls = [
        new_brownout().next_dimmer(Reading(0.0, latency_s, 10, 10))
        for latency_s in sorted((one_s, other_s))
    ]

    assert falls[1] <= falls[0] + 1e-12
    assert falls[1] >= 0.9  # a reading takes at most a share 1 - pole


def test_brownout_does_not_wind_up_at_the_floor() -> None:
    law = new_brownout()
    for _ in range(10_000):
        law.next_dimmer(Reading(0.0, 50.0, 100, 100))

    after = [law.next_dimmer(Reading(0.0, 0.0, 0, 0)) for _ in range(60)]

    assert after[0] >= FLOOR
    assert after[-1] == 1.0  # 15 s at 4 Hz


def test_brownout_takes_nothing_back_just_below_the_set_point() -> None:
    law = new_brownout()
    fallen = law.next_dimmer(Reading(0.0, 1.0, 10, 10))

    assert law.next_dimmer(Reading(0.0, 0.85 * SETPOINT_S, 10, 10)) == fallen


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_profile_predicts_no_less_latency_for_more_streams(one: int, other: int) -> None:
    profile = StepProfile(8, 0.02, 0.01)
    fewer, more = sorted((one, other))

    assert profile.latency_s(fewer, CHUNK_S) <= profile.latency_s(more, CHUNK_S)


def test_slack_learns_nothing_from_an_engine_that_rests() -> None:
    """Light work is mostly the fixed part of steps, which says nothing of what a stream costs."""
    table = [StepProfile(8, 0.022, 0.013), StepProfile(4, 0.02, 0.01)]
    law = Slack(table, layers_total=8, setpoint_s=SETPOINT_S, chunk_s=CHUNK_S)

    dimmers = [law.next_dimmer(Reading(i * TICK_S, 0.2, 8, 2, 0.2)) for i in range(200)]

    assert set(dimmers) == {1.0}
