"""Fleets on virtual time: nobody is lost, runs repeat, one replica is what it was before."""

from dataclasses import replace

import pytest

from benchmarks.simulator.fleet_run import FleetPlan, simulate_fleet
from benchmarks.simulator.fleet_scores import FleetScores, Moment, fleet_summary, words
from benchmarks.simulator.policies import Policy, PolicyName
from benchmarks.simulator.simulation import simulate
from benchmarks.simulator.traces import Trace, make_trace
from service.fleet.scaling import ScalingRule
from tests.simulator_kit import card, fleet

CHUNK_S = 0.1
"""At full depth a replica carries some five streams of it."""
RULE = ScalingRule(most=6, replica_weight=5.0, remove_dwell_s=20.0)


def plan(
    *, policy: PolicyName = "brownout", rule: ScalingRule = RULE, early_refusal: bool = True
) -> FleetPlan:
    shared = replace(
        fleet(CHUNK_S).replica, policy=Policy(name=policy, early_refusal=early_refusal)
    )
    return FleetPlan(replica=shared, rule=rule, start_s=8.0)


def step(load_s: float = 80.0, peak: int = 15) -> Trace:
    return make_trace("step", peak=peak, load_s=load_s, tail_s=20, seed=4)


@pytest.fixture(scope="module")
def both() -> FleetScores:
    return simulate_fleet(step(), plan(early_refusal=False))


def test_no_stream_is_lost_however_often_it_moves(both: FleetScores) -> None:
    trace, scores = step(), both.all

    assert scores.num_failed == 0
    assert scores.num_begun == scores.num_ended
    assert both.num_moves > 0
    served_s = sum(one.duration_s for one in trace.arrivals) - both.unserved_s
    assert scores.offered_s == pytest.approx(sum(one.duration_s for one in trace.arrivals))
    # Every packet that was sent has its lag; one that moves may lose the last tenth of a second.
    assert 0.1 * len(scores.lag_s) == pytest.approx(served_s, rel=0.02)


def test_depth_falls_at_once_and_comes_back_with_the_replicas(both: FleetScores) -> None:
    rise_s, _ = step().peak_s
    debts = {round(one.at_s): one.debt for one in both.moments}

    assert max(debts[at] for at in range(round(rise_s), round(rise_s) + 8)) > 0.2
    grown_s, wanted, reason = both.decisions[0]
    assert reason in {"debt", "closed"}
    assert wanted >= 3
    assert grown_s < rise_s + RULE.add_dwell_s + 5
    assert both.moments[-1].debt == 0.0


def test_replicas_come_after_their_start_and_go_once_they_are_spare(both: FleetScores) -> None:
    grown_s, wanted, _ = both.decisions[0]
    numbers = {round(one.at_s): (one.replicas, one.coming) for one in both.moments}

    assert numbers[round(grown_s) + 2] == (1, wanted - 1)
    assert numbers[round(grown_s) + 7][0] == 1
    assert numbers[round(grown_s) + 10][0] == wanted
    assert any(reason == "spare" for _, _, reason in both.decisions)
    assert all(RULE.least <= wanted <= RULE.most for _, wanted, _ in both.decisions)


def test_the_same_arguments_give_the_same_run(both: FleetScores) -> None:
    assert simulate_fleet(step(), plan(early_refusal=False)) == both


def test_nobody_moves_twice_in_five_minutes(both: FleetScores) -> None:
    streams = len(step().arrivals)

    # A run of 100 s: each at most once to even out, and once more for each replica that leaves.
    assert both.num_moves <= streams + sum(r == "spare" for _, _, r in both.decisions) * streams


@pytest.mark.parametrize("policy", ["fixed", "brownout"])
def test_one_replica_that_does_not_scale_is_the_replica_of_the_other_mode(
    policy: PolicyName,
) -> None:
    trace = step(40.0, 9)
    alone = plan(policy=policy, rule=ScalingRule(least=1, most=1))
    shared = replace(alone.replica, max_streams=1000)

    found = simulate_fleet(trace, replace(alone, replica=shared, retry_s=0.0)).all
    expected = simulate(trace, replace(fleet(CHUNK_S), replica=shared))

    assert found.lag_s == expected.lag_s
    assert found.encoded_s == expected.encoded_s
    assert found.samples[: len(expected.samples)] == expected.samples
    assert (found.num_begun, found.num_refused) == (expected.num_begun, expected.num_refused)


def test_those_who_are_refused_ask_again_and_what_they_said_meanwhile_is_lost() -> None:
    few = replace(plan().replica, max_streams=3)
    trace = make_trace("constant", peak=6, load_s=20, tail_s=0, seed=4)
    fixed = replace(plan(rule=ScalingRule(least=1, most=1)), replica=few)

    stays, scales = (
        simulate_fleet(trace, fixed),
        simulate_fleet(trace, replace(plan(), replica=few)),
    )

    assert stays.all.num_refused == scales.all.num_refused == 3
    assert stays.unserved_s > scales.unserved_s > 0
    assert scales.all.num_begun >= 6


def test_words_are_lost_to_depth_and_to_refusal_apart() -> None:
    wer = card().wer

    found = words({8.0: 50.0, 4.0: 50.0}, wer, full_layers=8.0, served=0.8)

    assert found["by_depth"] == pytest.approx(0.8 * 0.01)
    assert found["by_refusal"] == pytest.approx(0.2 * 0.9)
    assert found["words_lost"] == pytest.approx(0.188)
    assert words({8.0: 1.0}, wer, full_layers=8.0, served=1.0)["words_lost"] == 0.0


def test_a_summary_adds_up_what_replicas_cost(both: FleetScores) -> None:
    found = fleet_summary(both, card().wer, full_layers=8.0)

    seconds = sum(one.replicas + one.coming for one in both.moments)
    assert found["replica_hours"] == pytest.approx(seconds / 3600, abs=1e-3)
    assert found["replicas_most"] == max(one.replicas for one in both.moments)
    assert found["moves"] == both.num_moves


def test_a_moment_weighs_depth_by_streams() -> None:
    found = Moment.of(
        1.0, [0.5] * 20, [(3, 4.0), (1, 8.0), (0, 2.0)], coming=1, waiting=2, full_layers=8.0
    )

    assert (found.layers, found.debt, found.streams) == (5.0, 0.375, 4)
    assert Moment.of(1.0, [], [], coming=0, waiting=0, full_layers=8.0).lag_p95_s is None
