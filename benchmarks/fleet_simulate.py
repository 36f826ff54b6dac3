"""Simulate fleets: depth alone, replicas alone and both, by the stream or as fluid.

    python -m benchmarks.fleet_simulate --times benchmarks/results/service-times_MACHINE_DATE.json \
        --load step diurnal burst --peak 87 --minutes 12 --mode detailed fluid --out RESULT.json

Each combination is a row of the result, with what it was by the second (`--every` of them). The
fluid's table comes from the detailed mode first. docs/simulator.md says what is in either mode.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from benchmarks.fleet_systems import SYSTEMS, plan_of
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from benchmarks.simulator.__main__ import SHIPPED
from benchmarks.simulator.fleet_load import LOADS, FleetLoad
from benchmarks.simulator.fleet_run import FleetPlan, simulate_fleet
from benchmarks.simulator.fleet_scores import FleetScores, Moment, fleet_summary
from benchmarks.simulator.fluid import simulate_fluid
from benchmarks.simulator.fluid_table import Case, ReplicaTable, tabulate
from benchmarks.simulator.model_card import ModelCard, read_card
from benchmarks.simulator.policies import Policy
from benchmarks.simulator.replica import ReplicaConfig
from benchmarks.simulator.service_times import read_service_times
from benchmarks.simulator.speech import Manner

COLUMNS = {
    "mode": 8, "load": 7, "peak": 6, "system": 8, "replica_hours": 13, "replicas_most": 13,
    "words_lost": 10, "by_depth": 8, "by_refusal": 10, "depth_debt": 10, "refused": 7,
    "lag_over_s": 10, "moves": 6,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate from the command line."""
    options = _parse(arguments)
    started_s = time.perf_counter()
    config = ReplicaConfig(
        card=read_card(options.model),
        times=read_service_times(options.times, statistic=options.statistic),
        policy=Policy(name="brownout", setpoint_s=options.setpoint_s),
        max_streams=options.max_streams,
        manner=Manner(options.speech, options.pause),
    )
    table = tabulate(config, streams=options.cases, seconds=options.case_s, seed=options.seed)
    print(f"one replica keeps the lag of {table.calm.capacity():g} streams at full depth")
    print("  ".join(name.rjust(width) for name, width in COLUMNS.items()))
    rows: list[dict[str, object]] = [_table_row(table)]
    for name, peak, system, mode in product(
        options.load, options.peak, options.system, options.mode
    ):
        load = FleetLoad(name, peak, 60 * options.minutes, options.stream_s)
        plan = plan_of(
            system, load, config, table=table, start_s=options.start_s, seed=options.seed
        )
        scores = _simulate(mode, load, plan, table)
        row = {
            "what": "run", "mode": mode, "load": name, "peak": peak, "system": system,
            "least": plan.rule.least, "most": plan.rule.most,
            **summary(scores, config.card),
            "moments": [_compact(one) for one in scores.moments[:: options.every]],
        }  # fmt: skip
        print("  ".join(_cell(row, column).rjust(width) for column, width in COLUMNS.items()))
        sys.stdout.flush()
        rows.append(row)
    content = document(_run(options, time.perf_counter() - started_s), rows)
    if options.out is not None:
        options.out.write_text(json.dumps(content) + "\n", encoding="utf-8")
    print(json.dumps({**content, "results": len(rows)}))


def summary(scores: FleetScores, card: ModelCard) -> dict[str, object]:
    """Sum up a run; a shallower depth gets no credit for fewer errors on the card's few sentences."""
    full = card.full.effective_layers
    wer = {layers: max(found, card.wer[full]) for layers, found in card.wer.items()}
    return fleet_summary(scores, wer, full_layers=full)


def _simulate(mode: str, load: FleetLoad, plan: FleetPlan, table: ReplicaTable) -> FleetScores:
    if mode == "fluid":
        return simulate_fluid(load, plan, table)
    return simulate_fleet(load.trace(plan.seed), plan)


def _table_row(table: ReplicaTable) -> dict[str, object]:
    def curves(case: Case) -> dict[str, object]:
        return {
            "streams": case.busy.places,
            "latency_s": _rounded(case.latency_s.values),
            "lag_p95_s": _rounded(case.lag_p95_s.values),
            "busy": _rounded(case.busy.values),
            "capacity": case.capacity(),
        }

    return {
        "what": "replica",
        "calm": curves(table.calm),
        "strained": {f"{layers:g}": curves(case) for layers, case in table.strained.items()},
        "speech_share": round(table.speech_share, 4),
        "places": dict(table.places),
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _compact(moment: Moment) -> list[float | None]:
    """Give the fields in their order, which `config.moment` names."""
    return list(asdict(moment).values())


def _cell(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    return f"{value:.4g}" if isinstance(value, float) else str("-" if value is None else value)


def _run(options: argparse.Namespace, took_s: float) -> Run:
    config = {
        name: str(value.name) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name != "out"
    }
    moment = list(Moment.__dataclass_fields__)
    return Run(
        benchmark="fleet-simulation",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={**config, "moment": moment, "took_s": round(took_s, 1)},
        warm_up=0,
        repeats=1,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=Path, required=True, help="what profile measured")
    parser.add_argument("--statistic", choices=("median", "low"), default="median")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="a folder with a card.json")
    parser.add_argument("--speech", type=float, default=2.3, help="mean seconds between pauses")
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds of a pause")
    parser.add_argument("--max-streams", type=int, default=64, help="of a replica")
    parser.add_argument("--load", choices=LOADS, nargs="+", default=["step"])
    parser.add_argument("--peak", type=int, nargs="+", default=[87], help="streams of the fleet")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--stream-s", type=float, default=300.0, help="mean length of a stream")
    parser.add_argument("--system", choices=SYSTEMS, nargs="+", default=list(SYSTEMS))
    parser.add_argument(
        "--mode", choices=("detailed", "fluid"), nargs="+", default=["detailed", "fluid"]
    )
    parser.add_argument("--setpoint-s", type=float, default=0.4, help="of the controllers")
    parser.add_argument("--start-s", type=float, default=30.0, help="of a replica that is added")
    parser.add_argument(
        "--cases", type=int, nargs="+", default=[2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56]
    )
    parser.add_argument("--case-s", type=float, default=30.0)
    parser.add_argument("--every", type=int, default=1, help="seconds between moments kept")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
