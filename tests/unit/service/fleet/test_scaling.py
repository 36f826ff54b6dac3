"""The scaling law alone, and around a fleet whose replicas carry what they carry."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.fleet.scaling import (
    EVIDENCE_S,
    MEMORY_S,
    FleetReading,
    ScalingDecision,
    ScalingRule,
    ScalingState,
    carried_weight,
    decide,
)

RULE = ScalingRule(most=20, replica_weight=30.0, fill=0.8, keep=0.7)


@dataclass(frozen=True, slots=True)
class Load:
    weight: float
    depth_debt: float = 0.0
    lag_s: float = 0.1
    open: bool = True


def reading(now_s: float, loads: Sequence[Load], *, coming: int = 0) -> FleetReading:
    return FleetReading(
        now_s=now_s, num_replicas=len(loads) + coming, num_running=len(loads), loads=loads
    )


def after(
    loads: Sequence[Load], seconds: int, rule: ScalingRule = RULE, *, coming: int = 0
) -> ScalingDecision:
    """Show the same for so long, and give the first change or the last decision."""
    state, decision = ScalingState(), ScalingDecision(0, "steady")
    for now_s in range(seconds + 1):
        decision = decide(rule, reading(now_s, loads, coming=coming), state)
        if decision.wanted != len(loads) + coming:
            return decision
        state = decision.state
    return decision


@dataclass
class Plant:
    """Replicas that share the streams evenly, give up depth beyond what they carry, start slowly."""

    rule: ScalingRule
    carried: float
    start_s: float = 20.0
    num_running: int = 1

    def run(
        self, streams: Callable[[float], float], seconds: int, every_s: int = 1
    ) -> list[tuple[int, ScalingDecision, float]]:
        """Give time, decision and debt whenever the law was asked."""
        state, starts = ScalingState(), list[float]()
        found: list[tuple[int, ScalingDecision, float]] = []
        for now_s in range(0, seconds, every_s):
            self.num_running += sum(at_s <= now_s for at_s in starts)
            starts = [at_s for at_s in starts if at_s > now_s]
            load = self.load(streams(now_s))
            fleet = reading(now_s, [load] * self.num_running, coming=len(starts))
            decision = decide(self.rule, fleet, state)
            state = decision.state
            more = decision.wanted - fleet.num_replicas
            starts += [now_s + self.start_s] * more
            if more < 0:
                starts.clear()
                self.num_running = min(self.num_running, decision.wanted)
            found.append((now_s, decision, load.depth_debt))
        return found

    def load(self, streams: float) -> Load:
        each = streams / self.num_running
        over = each / self.carried
        debt = 0.0 if over <= 1 else 0.25 if over <= 1.2 else 0.5
        return Load(min(each, 1.5 * self.carried), debt, 0.2, over <= 1.5)


def changes(found: Sequence[tuple[int, ScalingDecision, float]]) -> list[tuple[int, int]]:
    return [
        (at_s, after.wanted)
        for (_, before, _), (at_s, after, _) in pairwise(found)
        if after.wanted != before.wanted
    ]


def test_one_replica_with_three_times_its_load_gets_all_it_needs_at_once() -> None:
    decision = after([Load(90, 0.5)], 10)

    assert (decision.wanted, decision.reason) == (4, "debt")  # 90 streams over 0.8 * 30
    assert decision.state.changed_at_s == RULE.add_dwell_s


def test_debt_that_does_not_last_asks_for_nothing() -> None:
    state = ScalingState()
    for now_s in range(60):
        debt = 0.5 if now_s % 4 < 2 else 0.0
        decision = decide(RULE, reading(now_s, [Load(90, debt)]), state)
        state = decision.state

        assert decision.wanted == 1


@pytest.mark.parametrize(
    ("load", "reason"),
    [(Load(40, 0.25), "debt"), (Load(40, 0.0, 0.7), "late"), (Load(40, open=False), "closed")],
)
def test_each_sign_of_strain_asks_for_replicas_and_says_which_it_was(
    load: Load, reason: str
) -> None:
    assert after([load], 10).reason == reason


def test_where_nobody_is_open_demand_may_be_more_than_what_is_seen() -> None:
    assert after([Load(40, 0.25)], 10).wanted == 2
    assert after([Load(40, 0.25, open=False)], 10).wanted == 3


def test_replicas_on_their_way_count_although_they_say_nothing() -> None:
    assert after([Load(90, 0.5)], 1000, coming=3).wanted == 4


def test_a_crowded_replica_beside_empty_ones_asks_for_none() -> None:
    crowded = [Load(60, 0.5), Load(5), Load(5), Load(5)]

    assert after(crowded, 1000).wanted == 4


def test_debt_at_less_than_was_stated_is_believed_after_a_while() -> None:
    decision = after([Load(20, 0.25), Load(20, 0.25)], 100)

    assert decision.wanted == 3
    assert decision.state.changed_at_s == EVIDENCE_S
    assert carried_weight(RULE, decision.state) == 20


def test_files_alone_ask_for_replicas_as_long_as_they_cost_depth() -> None:
    assert after([Load(4, 0.25)], 100).wanted == 2


def test_full_depth_at_more_than_was_stated_is_believed_too() -> None:
    calm = after([Load(50)], 100)

    decision = decide(RULE, reading(101, [Load(80, 0.25)]), calm.state)
    decision = decide(RULE, reading(107, [Load(80, 0.25)]), decision.state)

    assert decision.wanted == 2  # 80 over 0.8 * 50, not over 0.8 * 30


def test_spare_replicas_go_after_a_long_time_and_one_by_one_in_a_small_fleet() -> None:
    decision = after([Load(5)] * 6, 1000)

    assert (decision.wanted, decision.reason) == (5, "spare")
    assert decision.state.changed_at_s == RULE.remove_dwell_s


def test_a_large_fleet_gives_up_a_tenth_at_a_time() -> None:
    decision = after([Load(5)] * 100, 1000, replace(RULE, most=200))

    assert decision.wanted == 90


def test_a_replica_that_carries_a_share_is_not_spare() -> None:
    # 60 streams: three replicas at 20; two would have 30, above 0.7 of what they carry.
    assert after([Load(20)] * 3, 1000).wanted == 3


def test_nothing_is_taken_away_while_a_running_replica_is_silent() -> None:
    state = ScalingState()
    for now_s in range(1000):
        fleet = FleetReading(now_s=now_s, num_replicas=6, num_running=6, loads=[Load(5)] * 3)
        decision = decide(RULE, fleet, state)
        state = decision.state

        assert (decision.wanted, decision.reason) == (6, "silent")


def test_nobody_says_anything_and_nothing_changes() -> None:
    fleet = FleetReading(now_s=500.0, num_replicas=6, num_running=6, loads=[])

    assert decide(RULE, fleet, ScalingState()).wanted == 6


def test_a_fleet_outside_its_bounds_is_brought_back_at_once() -> None:
    few = decide(replace(RULE, least=3), reading(0, [Load(1)]), ScalingState())
    many = decide(replace(RULE, most=3), reading(0, [Load(60, 0.5)] * 5), ScalingState())

    assert (few.wanted, few.reason) == (3, "bounds")
    assert (many.wanted, many.reason) == (3, "bounds")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"least": 3, "most": 2}, r"expected 1 <= least <= most, got 3 and 2"),
        ({"keep": 0.9}, r"expected 0 < keep < fill <= 1, got 0.9 and 0.7"),
        ({"replica_weight": 0.0}, r"expected a replica_weight above 0, got 0.0"),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(changed: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScalingRule(**changed)  # pyright: ignore[reportArgumentType]


some_load = st.builds(
    Load,
    st.floats(0, 200),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.floats(0, 2),
    st.booleans(),
)
moments = st.lists(
    st.tuples(st.floats(0.1, 60), st.lists(some_load, max_size=8), st.integers(0, 4)), max_size=60
)


@settings(max_examples=150)
@given(moments, st.integers(1, 4), st.integers(4, 12))
def test_whatever_is_reported_bounds_and_dwells_hold(
    seen: list[tuple[float, list[Load], int]], least: int, most: int
) -> None:
    rule = ScalingRule(least=least, most=most, replica_weight=30)
    state, now_s, num = ScalingState(), 0.0, least
    changed_at_s = -math.inf
    for after_s, loads, silent in seen:
        now_s += after_s
        reports = loads[:num]
        running = min(num, len(reports) + silent)
        fleet = FleetReading(now_s=now_s, num_replicas=num, num_running=running, loads=reports)
        decision = decide(rule, fleet, state)

        assert decision == decide(rule, fleet, state)
        assert decision.state == ScalingState(**asdict(decision.state))
        assert least <= decision.wanted <= most
        strained = any(one.depth_debt or one.lag_s > rule.late_s for one in reports) or not any(
            one.open for one in reports
        )
        if decision.wanted > num:
            assert strained
            assert now_s - changed_at_s >= rule.add_dwell_s - 1e-6
            assert decision.wanted <= max(num + 2, rule.growth * num)
        if decision.wanted < num:
            carried = decision.wanted * rule.keep * carried_weight(rule, decision.state)
            assert decision.wanted == least or fleet.demand <= carried + 1e-6
            assert now_s - changed_at_s >= rule.remove_dwell_s - 1e-6
            assert running == len(reports)
        if decision.wanted != num:
            changed_at_s = now_s
        num, state = decision.wanted, decision.state


@settings(max_examples=30)
@given(
    st.floats(1, 200),
    st.floats(10, 60),
    st.floats(8, 90),
    st.integers(1, 15),
    st.sampled_from([4, 10]),
)
def test_a_constant_load_sees_no_flapping_and_gets_its_depth_back(
    streams: float, carried: float, stated: float, replicas: int, every_s: int
) -> None:
    """Whatever was stated, within an hour; after it what was learned may be tried once more."""
    rule = ScalingRule(most=40, replica_weight=stated)
    plant = Plant(rule, carried, num_running=replicas)

    found = plant.run(lambda _: streams, round(MEMORY_S), every_s)

    wanted = [decision.wanted for _, decision, _ in found]
    turns = [
        (before < here) != (here < later)
        for before, here, later in zip(*[_distinct(wanted)[at:] for at in range(3)], strict=False)
    ]
    assert sum(turns) <= 1  # it shrinks to what was stated, and grows again where that was too few
    assert found[-1][2] == 0.0
    assert not changes(found[-600 // every_s :])


def _distinct(wanted: list[int]) -> list[int]:
    return [one for one, before in zip(wanted, [0, *wanted], strict=False) if one != before]


@settings(max_examples=30)
@given(st.floats(1.5, 2.9), st.floats(10, 60), st.floats(5, 60))
def test_a_step_is_met_by_one_decision_where_what_a_replica_carries_is_known(
    factor: float, carried: float, start_s: float
) -> None:
    rule = replace(RULE, most=60, replica_weight=carried)
    plant = Plant(rule, carried, start_s)

    found = plant.run(lambda now_s: carried * (0.5 if now_s < 60 else factor), 600)

    within_s = 60 + rule.add_dwell_s + start_s + 2
    assert all(debt == 0 for at_s, _, debt in found if at_s > within_s)
    assert len(changes(found)) <= 2  # what was hidden behind shut doors was not as much as feared


def test_a_day_is_followed_up_and_down_without_depth_given_up_for_long() -> None:
    rule = ScalingRule(most=60, replica_weight=30)
    plant = Plant(rule, 30.0)

    found = plant.run(lambda now_s: 300 * (1.05 - math.cos(2 * math.pi * now_s / 7200)), 7200)

    in_debt = sum(debt > 0 for _, _, debt in found) / len(found)
    most = max(decision.wanted for _, decision, _ in found)
    assert in_debt < 0.1
    assert 20 <= most <= 34
    assert found[-1][1].wanted <= 4
