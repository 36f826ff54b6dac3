"""Fluid fleets, the four systems, and what is drawn and compared of them."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fleet_compare import main as compare
from benchmarks.fleet_figure import draw, lines_of, smoothed
from benchmarks.fleet_simulate import main, summary
from benchmarks.fleet_step import Tally, beginnings, moment_of, replica_changes
from benchmarks.fleet_systems import SYSTEMS, SystemName, plan_of
from benchmarks.record import missing_keys
from benchmarks.simulator.fleet_load import LOADS, FleetLoad, LoadName
from benchmarks.simulator.fleet_run import simulate_fleet
from benchmarks.simulator.fleet_scores import FleetScores
from benchmarks.simulator.fluid import simulate_fluid
from benchmarks.simulator.fluid_table import ReplicaTable, tabulate
from tests.simulator_kit import card, fleet

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
TIMES = max(RESULTS.glob("service-times_*.json"))


@pytest.fixture(scope="module")
def table() -> ReplicaTable:
    return tabulate(fleet(0.1, policy="brownout").replica, streams=[1, 3, 6, 9], seconds=14, seed=1)


def run(system: SystemName, load: FleetLoad, table: ReplicaTable, seed: int = 0) -> FleetScores:
    config = fleet(0.1, policy="brownout").replica
    return simulate_fluid(load, plan_of(system, load, config, table=table, seed=seed), table)


def test_latency_and_work_rise_with_streams_and_fall_with_depth(table: ReplicaTable) -> None:
    # Work alone need not: captions come less often where there is no room.
    assert list(table.calm.latency_s.values) == sorted(table.calm.latency_s.values)
    assert table.calm.busy.at(1) < 0.5 < table.calm.busy.at(9)
    assert table.strained[4.0].latency_s.at(9) < table.strained[8.0].latency_s.at(9)
    assert 1 <= table.calm.capacity() <= 9
    assert 0.3 < table.speech_share < 1


@settings(max_examples=8, deadline=None)
@given(name=st.sampled_from(LOADS), system=st.sampled_from(SYSTEMS), peak=st.integers(20, 300))
def test_everybody_who_comes_is_served_waits_or_has_gone(
    table: ReplicaTable, name: LoadName, system: SystemName, peak: int
) -> None:
    load = FleetLoad(name, peak, 240)
    found = run(system, load, table)

    # What flows in and ends is the same for all systems, so those in work or waiting are too.
    reference = run("peak", load, table)
    for one, other in zip(found.moments, reference.moments, strict=True):
        assert one.streams + one.waiting == pytest.approx(other.streams + other.waiting, rel=1e-3)
    assert found.unserved_s <= found.all.offered_s


def test_a_fluid_fleet_repeats_and_costs_the_same_at_any_size(table: ReplicaTable) -> None:
    small, large = FleetLoad("diurnal", 200, 600), FleetLoad("diurnal", 2000, 600)

    assert run("both", small, table) == run("both", small, table)
    few, many = (summary(run("depth", one, table), card())["depth_debt"] for one in (small, large))
    assert few == pytest.approx(many, abs=0.08)


def test_a_fluid_step_is_met_by_depth_first_and_replicas_then(table: ReplicaTable) -> None:
    scores = run("both", FleetLoad("step", 60, 400), table)

    grown_s, wanted, _ = scores.decisions[0]
    assert 60 < grown_s < 75
    assert wanted > scores.moments[0].replicas
    debts = {one.at_s: one.debt for one in scores.moments}
    assert max(debts[at] for at in debts if 62 <= at <= grown_s + 25) > 0
    assert scores.moments[-1].debt < 0.2


def test_a_detailed_fleet_of_the_same_load_needs_about_as_many_replicas(
    table: ReplicaTable,
) -> None:
    load = FleetLoad("diurnal", 20, 160, stream_s=60)
    plan = plan_of("both", load, fleet(0.1, policy="brownout").replica, table=table, start_s=10.0)

    detailed, fluid = simulate_fleet(load.trace(3), plan), simulate_fluid(load, plan, table)

    hours = [summary(one, card())["replica_hours"] for one in (detailed, fluid)]
    assert hours[0] == pytest.approx(hours[1], rel=0.5)


@pytest.mark.parametrize("name", LOADS)
def test_a_drawn_trace_has_as_many_streams_as_its_curve(name: LoadName) -> None:
    load = FleetLoad(name, 400, 900, stream_s=60)
    trace = load.trace(5)

    at_s = 850.0 if name == "step" else 450.0 if name == "diurnal" else 110.0
    there = sum(one.at_s <= at_s < one.at_s + one.duration_s for one in trace.arrivals)
    assert there == pytest.approx(load.streams(at_s), rel=0.15)
    assert trace == load.trace(5)
    assert trace != load.trace(6)


def test_systems_differ_in_what_may_change(table: ReplicaTable) -> None:
    load = FleetLoad("step", 90, 300)
    config = fleet(0.1, policy="brownout").replica
    plans = {name: plan_of(name, load, config, table=table) for name in SYSTEMS}

    assert plans["depth"].rule.least == plans["depth"].rule.most
    assert plans["peak"].rule.least == plans["peak"].rule.most > plans["depth"].rule.most
    assert plans["both"].rule.most > plans["both"].rule.least
    policies = {name: plan.replica.policy.name for name, plan in plans.items()}
    assert policies == {
        "depth": "brownout", "replicas": "fixed", "both": "brownout", "peak": "fixed",
    }  # fmt: skip


def test_the_command_writes_a_result_that_can_be_drawn(tmp_path: Path) -> None:
    out, picture = tmp_path / "result.json", tmp_path / "figure.svg"

    main(
        ["--times", str(TIMES), "--statistic", "low", "--peak", "20", "--minutes", "1.2",
         "--system", "both", "--cases", "2", "8", "--case-s", "12", "--out", str(out)]
    )  # fmt: skip

    content = json.loads(out.read_text("utf-8"))
    assert missing_keys(content) == []
    kinds = [(row["what"], row.get("mode")) for row in content["results"]]
    assert kinds == [("replica", None), ("run", "detailed"), ("run", "fluid")]
    wanted = argparse.Namespace(load="step", mode=["detailed", "fluid"], system=["both"], peak=20)
    lines = lines_of(content, wanted)
    assert list(lines) == ["both, detailed", "both, fluid"]
    draw(lines, picture)
    assert "<svg" in picture.read_text("utf-8")


def test_a_measured_step_is_simulated_with_the_same_streams(tmp_path: Path) -> None:
    measured, out = tmp_path / "step.json", tmp_path / "compared.json"
    config = {"base": 2, "peak": 6, "step_at": 10.0, "seconds": 30.0, "hold": 0.0, "retry": 5.0}
    content = {"config": config, "results": [{"peak": 6, "system": "both"}]}
    measured.write_text(json.dumps(content), "utf-8")

    compare(
        [str(measured), "--factor", "0.2", "--most", "3", "--replica-streams", "3",
         "--start-s", "5", "--out", str(out)]
    )  # fmt: skip

    (row,) = json.loads(out.read_text("utf-8"))["results"]
    assert row["offered_s"] == pytest.approx(2 * 29.75 + 4 * 19.6, abs=1)
    assert row["replicas_most"] > 1


def test_readings_of_a_fleet_become_moments() -> None:
    tally = Tally(lags_s=[0.2, 0.4], waiting=3)
    replicas = [{"streams": 3, "depth_debt": 0.5}, {"streams": 1, "depth_debt": 0.0}]

    found = moment_of(7.0, replicas, tally, full_layers=8.0)

    assert (found.layers, found.replicas, found.waiting, tally.lags_s) == (5.0, 2, 3, [])
    later = replace(found, at_s=8.0, replicas=3)
    assert replica_changes([found, later, replace(later, at_s=9.0)]) == [(8.0, 3)]


def test_a_step_begins_with_its_base_and_goes_on_with_the_rest() -> None:
    begins = beginnings(2, 6, 30.0)

    assert begins == [0.0, 0.5, 30.0, 30.25, 30.5, 30.75]


def test_a_running_median_passes_over_what_is_not_known() -> None:
    assert smoothed([1.0, None, 9.0, 2.0, None, None, None, None]) == [
        9.0, 2.0, 2.0, 9.0, 9.0, 2.0, None, None,
    ]  # fmt: skip
