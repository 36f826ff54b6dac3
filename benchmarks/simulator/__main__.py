"""Simulate loads on replicas of the service, to size a deployment.

    python -m benchmarks.simulator --times benchmarks/results/service-times_*.json \
        --trace step --peak 200 --replicas 4 --policy brownout slack fixed --minutes 10

Every combination of trace, peak and policy is a run of its own and a row of the table. The last
line is the result as JSON; `--out` writes it to a file, `--figure` draws lag, depth debt and words
by load. `--capacity` looks for the most streams that keep their lag at a fixed depth instead.
docs/simulator.md says what is in the model and what is not.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from benchmarks.simulator.capacity import KEPT, capacity
from benchmarks.simulator.fleet import ROUTERS, SCALERS, ScalingRule
from benchmarks.simulator.model_card import ModelCard, read_card
from benchmarks.simulator.policies import POLICIES, Policy
from benchmarks.simulator.replica import ReplicaConfig
from benchmarks.simulator.scores import summary
from benchmarks.simulator.service_times import ServiceTimes, read_service_times
from benchmarks.simulator.simulation import FleetConfig, simulate
from benchmarks.simulator.speech import Manner
from benchmarks.simulator.traces import TRACES, make_trace

SHIPPED = Path(__file__).parents[2] / "model_store" / "weights" / "moonshine-base-elastic"
COLUMNS = {
    "trace": 9, "policy": 13, "peak": 5, "slo_lag": 8, "lag_p95_s": 9, "slo_first_partial": 17,
    "wer_ratio": 9, "depth_debt": 10, "refused": 7, "most_changes_settled": 20, "recovery_s": 10,
    "busy": 6,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate from the command line."""
    options = _parse(arguments)
    card = read_card(options.model)
    times = read_service_times(
        options.times, statistic=options.statistic, background=options.background
    )
    started_s = time.perf_counter()
    rows = _capacities(options, card, times) if options.capacity else _runs(options, card, times)
    content = document(_run(options, time.perf_counter() - started_s), rows)
    if options.out is not None:
        options.out.write_text(json.dumps(content) + "\n", encoding="utf-8")
    if options.figure is not None:
        from benchmarks.simulator.figure import draw  # matplotlib takes seconds, and only here

        draw(rows, options.figure)
    print(json.dumps(content))


def _capacities(
    options: argparse.Namespace, card: ModelCard, times: ServiceTimes
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for drop in options.drop:
        policy = Policy(
            name="fixed",
            drop=drop,
            partial_interval_s=options.partial_interval,
            early_refusal=False,
        )
        config = _fleet(options, card, times, policy)
        most = capacity(config, seconds=60 * options.minutes, seed=options.seed)
        layers = (1 - drop) * card.full.layers_total
        rows.append({"drop": drop, "layers": layers, "streams": most, "kept": KEPT})
        print(f"{layers:g} layers: {most} streams on {options.replicas} replicas")
    return rows


def _runs(
    options: argparse.Namespace, card: ModelCard, times: ServiceTimes
) -> list[dict[str, object]]:
    policies = [
        Policy(
            name=name,
            drop=drop,
            max_wer_increase=options.max_wer_increase,
            partial_interval_s=options.partial_interval,
            early_refusal=options.early_refusal,
        )
        for name in options.policy
        for drop in (options.drop if name == "fixed" else [0.0])
    ]
    print("  ".join(name.rjust(width) for name, width in COLUMNS.items()))
    rows: list[dict[str, object]] = []
    for trace_name, peak, policy in product(options.trace, options.peak, policies):
        trace = make_trace(
            trace_name,
            peak=peak,
            load_s=60 * options.minutes,
            tail_s=options.tail,
            seed=options.seed,
        )
        began_s = time.perf_counter()
        scores = simulate(trace, _fleet(options, card, times, policy))
        found = summary(
            scores, card, replicas=options.replicas, run_s=trace.end_s, peak_s=trace.peak_s
        )
        row = {"trace": trace_name, "peak": peak, "policy": policy.label, **found}
        print("  ".join(_cell(row, name).rjust(width) for name, width in COLUMNS.items()))
        speed = scores.offered_s / (time.perf_counter() - began_s)
        print(f"{speed:.0f} stream-seconds a second", file=sys.stderr)
        rows.append(row)
    return rows


def _fleet(
    options: argparse.Namespace, card: ModelCard, times: ServiceTimes, policy: Policy
) -> FleetConfig:
    return FleetConfig(
        replica=ReplicaConfig(
            card=card,
            times=times,
            policy=policy,
            max_streams=options.max_streams,
            two_pass=options.two_pass,
            manner=Manner(options.speech, options.pause),
        ),
        replicas=options.replicas,
        router=options.router,
        scaling=ScalingRule(
            name=options.scale, target_streams=options.target_streams, start_s=options.start_s
        ),
        seed=options.seed,
    )


def _cell(row: dict[str, object], name: str) -> str:
    if name == "lag_p95_s":
        lag_s = row["lag_s"]
        return f"{lag_s['p95']:.2f}" if isinstance(lag_s, dict) else "-"
    value = row[name]
    return f"{value:.3f}" if isinstance(value, float) else str("-" if value is None else value)


def _run(options: argparse.Namespace, took_s: float) -> Run:
    config = {
        name: str(value.name) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name not in {"out", "figure"}
    }
    return Run(
        benchmark="simulator",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={**config, "took_s": round(took_s, 1)},
        warm_up=0,
        repeats=1,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=Path, required=True, help="what profile measured")
    parser.add_argument("--statistic", choices=("median", "low"), default="median")
    parser.add_argument(
        "--background", type=float, default=0.0, help="share of a core that a stream takes besides"
    )
    parser.add_argument("--model", type=Path, default=SHIPPED, help="a folder with a card.json")
    parser.add_argument("--speech", type=float, default=3.8, help="mean seconds between pauses")
    parser.add_argument("--pause", type=float, default=1.5, help="mean seconds of a pause")
    parser.add_argument("--trace", choices=TRACES, nargs="+", default=["step"])
    parser.add_argument("--peak", type=int, nargs="+", default=[16], help="streams of all replicas")
    parser.add_argument("--minutes", type=float, default=5.0, help="of load")
    parser.add_argument("--tail", type=float, default=60.0, help="seconds of little load behind it")
    parser.add_argument("--policy", choices=POLICIES, nargs="+", default=["brownout"])
    parser.add_argument("--drop", type=float, nargs="+", default=[0.0], help="of policy fixed")
    parser.add_argument("--max-wer-increase", type=float, default=0.5, help="of the other policies")
    parser.add_argument("--partial-interval", type=float, default=0.0, help="0 lets the load say")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--max-streams", type=int, default=32, help="of a replica")
    parser.add_argument("--router", choices=ROUTERS, default="least-streams")
    parser.add_argument("--scale", choices=SCALERS, default="none")
    parser.add_argument("--target-streams", type=float, default=12.0, help="for --scale debt")
    parser.add_argument("--start-s", type=float, default=40.0, help="of a replica that is added")
    parser.add_argument("--early-refusal", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--two-pass", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--capacity", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
