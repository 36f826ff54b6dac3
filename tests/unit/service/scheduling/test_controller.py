"""The budget controller on readings that are made up, and on a queue that answers to the depth."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.brownout import Brownout
from service.scheduling.controller import (
    AUDIT_SIZE,
    BudgetController,
    Damping,
    Decision,
    DimmerLaw,
    FixedDepth,
    Reading,
)
from service.scheduling.levels import DepthLevel, usable_levels
from tests.controller_kit import (
    CHUNK_S,
    FLOOR,
    LEVELS,
    SETPOINT_S,
    TICK_S,
    QueuePlant,
    capacity,
    cost_of,
    new_brownout,
    new_controller,
    new_slack,
)


def most_in_five_minutes(at_s: Sequence[float]) -> int:
    return max((sum(start <= at < start + 299 for at in at_s) for start in at_s), default=0)


readings = st.builds(
    Reading,
    at_s=st.just(0.0),
    latency_s=st.floats(0, 1e6),
    samples=st.integers(0, 1000),
    num_streams=st.integers(0, 10_000),
    busy_ratio=st.floats(0, 1),
)


@given(st.lists(readings, min_size=1, max_size=80))
def test_the_depth_is_always_a_measured_one_and_changes_keep_the_dwell(
    sequence: list[Reading],
) -> None:
    controller = new_controller()
    damping = Damping()
    changes: list[Decision] = []

    for index, reading in enumerate(sequence):
        at_s = index * TICK_S
        decision = controller.tick(
            Reading(at_s, reading.latency_s, reading.samples, reading.num_streams)
        )
        assert controller.level in LEVELS
        assert FLOOR <= controller.dimmer <= 1
        if decision is not None:
            changes.append(decision)
            assert decision.to_layers != decision.from_layers
            assert decision.to_layers == controller.level.layers

    for earlier, later in pairwise(changes):
        rises = later.to_layers > later.from_layers
        least_s = damping.rise_dwell_s if rises else damping.dwell_s
        assert later.at_s - earlier.at_s >= least_s - 1e-9


@given(
    st.lists(st.floats(0.5, 3), min_size=8, max_size=8),
    st.floats(0, 1.5),
    st.integers(0, 8),
)
def test_usable_levels_never_go_below_the_floor_nor_pay_depth_for_worse_words(
    wer_ratios: list[float], max_wer_increase: float, min_layers: int
) -> None:
    measured = [
        DepthLevel(8 - index, index / 8, ratio)
        for index, ratio in enumerate([1.0, *wer_ratios[:7]])
    ]

    levels = usable_levels(
        measured, max_wer_increase=max_wer_increase, min_layers=float(min_layers)
    )

    assert levels[0].layers == 8
    for index, level in enumerate(levels[1:], 1):
        assert level.wer_ratio <= 1 + max_wer_increase + 1e-6
        assert level.layers >= min_layers
        assert level.layers < levels[index - 1].layers
        assert all(level.wer_ratio < shallower.wer_ratio for shallower in levels[index + 1 :])


def test_a_depth_whose_words_are_worse_than_a_cheaper_one_is_left_out() -> None:
    measured = [
        DepthLevel(8, 0.0, 1.0),
        DepthLevel(6, 0.25, 1.3),
        DepthLevel(4, 0.5, 1.2),
        DepthLevel(2, 0.75, 4.0),
    ]

    levels = usable_levels(measured, max_wer_increase=0.5)

    assert [level.layers for level in levels] == [8, 4]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("load", [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("new_law", [new_brownout, new_slack], ids=["brownout", "slack"])
def test_constant_load_sees_two_changes_in_five_minutes_at_most(
    new_law: Callable[[], DimmerLaw], load: float, seed: int
) -> None:
    count = int(load * capacity())
    plant = QueuePlant(new_controller(new_law()), lambda _: count, seed=seed).run(1500)

    settled = [one.at_s for one in plant.decisions if one.at_s > 60]
    late = [latency_s for at_s, latency_s in plant.latencies if at_s > 60]

    assert most_in_five_minutes(settled) <= 2
    assert sum(latency_s > 2 * SETPOINT_S for latency_s in late) <= 0.02 * len(late)


@pytest.mark.parametrize("swell_s", [30, 60, 120, 300])
@pytest.mark.parametrize("swell", [0.05, 0.1, 0.15])
@pytest.mark.parametrize("load", [0.6, 0.7, 0.8, 0.9])
def test_a_constant_load_that_breathes_is_no_reason_to_try_two_depths_in_a_row(
    load: float, swell: float, swell_s: float
) -> None:
    levels = [level for level in LEVELS if level.layers in (8, 5, 4)]
    count = int(load * CHUNK_S / (0.02 * cost_of(levels[-1].dimmer)))
    law = Brownout(setpoint_s=SETPOINT_S, floor=levels[-1].dimmer)
    plant = QueuePlant(
        new_controller(law, levels), lambda _: count, swell=swell, swell_s=swell_s
    ).run(1500)

    assert most_in_five_minutes([one.at_s for one in plant.decisions if one.at_s > 60]) <= 2


def test_rises_follow_one_another_once_the_demand_is_gone() -> None:
    heavy, light = int(0.9 * capacity()), int(0.5 * capacity())
    plant = QueuePlant(new_controller(), lambda now_s: heavy if now_s < 60 else light).run(110)

    assert plant.controller.level == LEVELS[0]


@pytest.mark.parametrize("load", [0.3, 0.45])
@pytest.mark.parametrize("new_law", [new_brownout, new_slack], ids=["brownout", "slack"])
def test_a_load_that_full_depth_carries_runs_at_full_depth(
    new_law: Callable[[], DimmerLaw], load: float
) -> None:
    count = int(load * capacity())
    plant = QueuePlant(new_controller(new_law()), lambda _: count).run(600)

    assert plant.controller.level == LEVELS[0]


@pytest.mark.parametrize("full_s", [0.005, 0.02, 0.04])
@pytest.mark.parametrize("load", [0.8, 1.5])
@pytest.mark.parametrize("left", [0.0, 0.1, 0.3])
def test_every_depth_is_back_within_thirty_seconds_of_the_end_of_a_load(
    full_s: float, load: float, left: float
) -> None:
    busy, calm = int(load * capacity(full_s)), int(left * capacity(full_s))
    plant = QueuePlant(new_controller(), lambda now_s: busy if now_s < 120 else calm, full_s=full_s)
    plant.run(120)
    assert plant.controller.level != LEVELS[0]
    plant._backlog_s = 0.0  # those who went took what they had not said with them

    plant.run(150)

    assert plant.controller.level == LEVELS[0]


@pytest.mark.parametrize("new_law", [new_brownout, new_slack], ids=["brownout", "slack"])
def test_more_load_than_the_floor_carries_ends_at_the_floor_and_stays(
    new_law: Callable[[], DimmerLaw],
) -> None:
    count = int(1.3 * capacity())
    plant = QueuePlant(new_controller(new_law()), lambda _: count).run(300)

    assert plant.controller.at_floor
    assert plant.decisions[-1].at_s < 30


def test_a_step_of_load_is_answered_within_five_seconds() -> None:
    light, heavy = int(0.3 * capacity()), int(0.9 * capacity())
    plant = QueuePlant(new_controller(), lambda now_s: light if now_s < 60 else heavy).run(65)

    assert [one.reason for one in plant.decisions][:1] == ["overload"]
    assert plant.decisions[0].at_s >= 60


def test_the_loop_is_stable_with_the_gain_wrong_by_ten_both_ways() -> None:
    """A plant without memory: latency is gain times dimmer, whatever the law believes."""
    for gain_s in (SETPOINT_S / 5, SETPOINT_S * 1.5, SETPOINT_S * 5):
        law = new_brownout()
        dimmer = 1.0
        for _ in range(400):
            dimmer = law.next_dimmer(Reading(0.0, gain_s * dimmer, 10, 10))
        settled = [law.next_dimmer(Reading(0.0, gain_s * dimmer, 10, 10)) for _ in range(20)]

        assert max(settled) - min(settled) < 0.02


def test_nothing_measured_changes_nothing() -> None:
    controller = new_controller()
    for index in range(8):
        controller.tick(Reading(index * TICK_S, 2.0, 5, 5))
    depth, dimmer = controller.level, controller.dimmer

    controller.tick(Reading(2.0, 0.0, 0, 5))

    assert (controller.level, controller.dimmer) == (depth, dimmer)
    assert depth != LEVELS[0]


def test_a_fixed_depth_never_turns() -> None:
    controller = new_controller(FixedDepth())

    for index in range(100):
        assert controller.tick(Reading(index * TICK_S, 60.0, 10, 10)) is None
    assert controller.level == LEVELS[0]


def test_one_level_alone_is_floor_and_full_depth() -> None:
    controller = BudgetController(
        Brownout(setpoint_s=SETPOINT_S, floor=1.0), LEVELS[:1], setpoint_s=SETPOINT_S
    )

    assert controller.tick(Reading(0.0, 60.0, 10, 10)) is None
    assert controller.at_floor


def test_decisions_are_kept_with_what_they_were_made_from() -> None:
    controller = new_controller()
    at_s = 0.0
    decision = None
    while decision is None:
        at_s += TICK_S
        decision = controller.tick(Reading(at_s, 2.0, 5, 7))

    assert list(controller.decisions) == [decision]
    assert (decision.measured_s, decision.setpoint_s, decision.num_streams) == (2.0, SETPOINT_S, 7)
    assert decision.reason == "overload"
    assert decision.from_layers == 8
    assert controller.decisions.maxlen == AUDIT_SIZE


def test_what_is_cheaper_than_depth_is_given_up_first_and_comes_back_last() -> None:
    heavy = int(1.2 * capacity())
    plant = QueuePlant(new_controller(), lambda now_s: heavy if 10 < now_s < 30 else 2)
    strained: list[tuple[float, bool]] = []

    while plant.now_s < 90:
        plant.run(plant.now_s + TICK_S)
        strained.append((plant.now_s, plant.controller.strained))

    begins = next(at_s for at_s, is_strained in strained if is_strained)
    ends = next(at_s for at_s, is_strained in strained if at_s > begins and not is_strained)
    assert begins + Damping().dwell_s <= plant.decisions[0].at_s
    assert plant.decisions[-1].to_layers == 8
    assert ends >= plant.decisions[-1].at_s


def test_latency_that_the_cheaper_things_cure_costs_no_depth() -> None:
    controller = new_controller()
    for index in range(400):
        latency_s = 0.2 if controller.strained else 0.6
        controller.tick(Reading(index * TICK_S, latency_s, 20, 10))

    assert not controller.decisions


@pytest.mark.parametrize("law", [new_brownout, new_slack])
def test_latency_of_an_engine_that_is_not_busy_costs_nothing(law: Callable[[], DimmerLaw]) -> None:
    """Two chunks and a final that met in one round are no load."""
    controller = new_controller(law())
    for index in range(400):
        controller.tick(Reading(index * TICK_S, 0.6 if index % 8 == 0 else 0.2, 8, 2, 0.35))

    assert not controller.decisions
    assert not controller.strained


def test_full_depth_comes_back_once_the_engine_rests_whatever_latency_is_and_was_tried() -> None:
    controller = new_controller()
    for index in range(200):
        controller.tick(Reading(index * TICK_S, 0.9, 20, 10, 1.0))
    assert controller.at_floor
    for index in range(200, 320):
        controller.tick(Reading(index * TICK_S, 0.27, 6, 8, 0.3))

    assert controller.level == LEVELS[0]


def test_an_idle_service_says_so_when_it_takes_depth_back() -> None:
    plant = QueuePlant(
        new_controller(), lambda now_s: int(1.2 * capacity()) if now_s < 20 else 0
    ).run(60)

    assert plant.decisions[-1].reason == "idle"
    assert plant.decisions[-1].to_layers == 8


def test_a_rise_goes_one_depth_at_a_time() -> None:
    plant = QueuePlant(
        new_controller(), lambda now_s: int(1.2 * capacity()) if now_s < 20 else 2
    ).run(60)

    rises = [one for one in plant.decisions if one.to_layers > one.from_layers]

    assert [one.to_layers for one in rises] == [4, 5, 6, 7, 8]


def test_slack_corrects_a_table_that_promises_too_much() -> None:
    plant = QueuePlant(new_controller(new_slack(full_s=0.005)), lambda _: int(0.9 * capacity()))
    plant.run(120)

    late = [latency_s for at_s, latency_s in plant.latencies if at_s > 60]

    assert max(late) < 2 * SETPOINT_S
