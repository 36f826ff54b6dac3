"""Simulate what `benchmarks.fleet_step` measured: the same streams on fleets of the fake engine.

    python -m benchmarks.fleet_compare benchmarks/results/fleet-step_*.json --factor 0.1 \
        --most 4 --replica-streams 10 --start-s 10 --out RESULT.json

`--factor`, `--most` and `--replica-streams` are what the fleet was set to (`ASR_FAKE_REALTIME_FACTOR`,
`ASR_REPLICAS_MAX`, `ASR_REPLICA_STREAMS`); `--start-s` is what its replicas took to start.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.fleet_simulate import summary
from benchmarks.fleet_step import STAGGER_S, beginnings
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from benchmarks.simulator.fake_replica import fake_replica
from benchmarks.simulator.fleet_run import FleetPlan, simulate_fleet
from benchmarks.simulator.fleet_scores import Moment
from benchmarks.simulator.speech import Manner
from benchmarks.simulator.traces import Arrival, Trace
from service.fleet.scaling import ScalingRule


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--factor", type=float, required=True)
    parser.add_argument("--most", type=int, required=True)
    parser.add_argument("--replica-streams", type=float, required=True)
    parser.add_argument("--start-s", type=float, required=True)
    parser.add_argument("--max-streams", type=int, default=32)
    parser.add_argument("--speech", type=float, default=4.8, help="mean seconds of the clips")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    measured = json.loads(options.result.read_text("utf-8"))
    replica = fake_replica(
        options.factor,
        max_streams=options.max_streams,
        manner=Manner(options.speech, options.pause),
    )
    plan = FleetPlan(
        replica=replica,
        rule=ScalingRule(least=1, most=options.most, replica_weight=options.replica_streams),
        start_s=options.start_s,
        retry_s=measured["config"]["retry"],
        seed=options.seed,
    )
    scores = simulate_fleet(same_trace(measured["config"], options.seed), plan)
    first = measured["results"][0]
    row = {
        "what": "run", "mode": "detailed", "load": "step", "peak": first["peak"],
        "system": first["system"], **summary(scores, replica.card),
        "moments": [list(asdict(one).values()) for one in scores.moments],
    }  # fmt: skip
    config = {
        name: str(value.name) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name != "out"
    }
    run = Run(
        benchmark="fleet-simulation",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={**config, "moment": list(Moment.__dataclass_fields__)},
        warm_up=0,
        repeats=1,
    )
    content = document(run, [row])
    if options.out is not None:
        options.out.write_text(json.dumps(content) + "\n", encoding="utf-8")
    print(json.dumps({**content, "results": [{**row, "moments": "..."}]}))


def same_trace(config: dict[str, Any], seed: int) -> Trace:
    """Give the streams that a measured step had, each from its beginning to the end of all."""
    end_s = config["seconds"] + config["hold"]
    begins = beginnings(config["base"], config["peak"], config["step_at"])
    arrivals = tuple(
        Arrival(at_s, end_s - at_s, seed * 1_000_003 + place)
        for place, at_s in enumerate(sorted(begins))
    )
    return Trace(arrivals, (config["step_at"] + STAGGER_S, end_s), end_s)


if __name__ == "__main__":
    main()
