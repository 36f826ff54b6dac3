"""What the way into a fleet costs: live streams on one core, by `asr serve`, HAProxy and Ray's proxy.

    python -m benchmarks.fleet_proxy --clip FILE... --streams 4 8 12 16 > fleet-proxy.json

The same streams, one server after the other, in the same run; the fleets have one replica. Everything
that belongs to a server shares one core: of a fleet Ray's own processes too. A row holds what
`benchmarks.capacity` says of each, and what a fleet's has more. How many streams each carries is read
off the lags; a server that has not carried a number is asked for no greater one.
"""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from benchmarks.capacity import arguments_of, config_of, measure
from benchmarks.capacity_server import PinnedServer
from benchmarks.fleet_server import PinnedFleet, PinnedFleetByRay
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.audio import read_audio

SERVERS: dict[str, type[PinnedServer]] = {
    "serve": PinnedServer,
    "haproxy": PinnedFleet,
    "ray": PinnedFleetByRay,
}
LAG_LIMIT_S = 1.0
"""A number of streams is carried while the 95th percentile of their lag is below, and none failed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = arguments_of(__doc__).parse_args(arguments)
    environment = read_environment()  # of the machine, before this program keeps to one core
    os.sched_setaffinity(0, {options.client_core})
    clips = [read_audio(path) for path in options.clip]
    rows: list[dict[str, Any]] = []
    for count in sorted(options.streams):
        for name, server in SERVERS.items():
            if not all(is_carried(row) for row in rows if row["server"] == name):
                continue
            print(f"{count} streams, {name}", file=sys.stderr)
            rows.append({"server": name, **measure(count, clips, options, server)})
    run = Run(
        benchmark="fleet-proxy",
        started=datetime.now(UTC),
        environment=environment,
        config={
            **config_of(options, clips),
            "lag_limit_s": LAG_LIMIT_S,
            "carried": {name: carried(rows, name) for name in SERVERS},
            "added": added(rows),
        },
        warm_up=1,
        repeats=1,
    )
    print(json.dumps(document(run, rows)))


def is_carried(row: dict[str, Any]) -> bool:
    """Tell whether a server kept up with the streams of a row."""
    lag_s = row["lag_s"]
    return not row["errors"] and lag_s is not None and lag_s["p95"] < LAG_LIMIT_S


def carried(rows: Sequence[dict[str, Any]], server: str) -> int:
    """Give the most streams that a server carried, with all smaller numbers of them; 0 for none."""
    most = 0
    for row in sorted(rows, key=lambda one: cast("int", one["streams"])):
        if row["server"] != server:
            continue
        if not is_carried(row):
            break
        most = row["streams"]
    return most


def added(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give, for each fleet and number of streams, the lag and the CPU that it has more."""
    alone = {row["streams"]: row for row in rows if row["server"] == "serve"}
    found: list[dict[str, Any]] = []
    for row in rows:
        base = alone.get(row["streams"])
        if row["server"] == "serve" or base is None or not (row["lag_s"] and base["lag_s"]):
            continue
        found.append(
            {
                "server": row["server"],
                "streams": row["streams"],
                "lag_p50_s": round(row["lag_s"]["p50"] - base["lag_s"]["p50"], 4),
                "lag_p95_s": round(row["lag_s"]["p95"] - base["lag_s"]["p95"], 4),
                "cpu": round(row["server_cpu"] - base["server_cpu"], 4),
            }
        )
    return found


if __name__ == "__main__":
    main()
