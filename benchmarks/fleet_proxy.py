"""What Ray's proxy costs: live streams on one core, by `asr serve` and by a fleet of one replica.

    python -m benchmarks.fleet_proxy --clip FILE... --streams 4 8 12 16 > fleet-proxy.json

The same streams, one after the other against both, in the same run; everything that belongs to a
server shares one core: of the fleet Ray's own processes too. A row holds what `benchmarks.capacity`
says of each, and what the fleet's has more. How many streams each carries is read off the lags.
"""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from benchmarks.capacity import arguments_of, config_of, measure
from benchmarks.capacity_server import PinnedServer
from benchmarks.fleet_server import PinnedFleet
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.audio import read_audio

SERVERS: dict[str, type[PinnedServer]] = {"serve": PinnedServer, "fleet": PinnedFleet}
LAG_LIMIT_S = 1.0
"""A number of streams is carried while the 95th percentile of their lag is below, and none failed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = arguments_of(__doc__).parse_args(arguments)
    environment = read_environment()  # of the machine, before this program keeps to one core
    os.sched_setaffinity(0, {options.client_core})
    clips = [read_audio(path) for path in options.clip]
    rows: list[dict[str, Any]] = []
    for count in options.streams:
        for name, server in SERVERS.items():
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


def carried(rows: Sequence[dict[str, Any]], server: str) -> int:
    """Give the most streams that a server carried, with all smaller numbers of them; 0 for none."""
    most = 0
    for row in sorted(rows, key=lambda one: cast("int", one["streams"])):
        if row["server"] != server:
            continue
        lag_s = row["lag_s"]
        if row["errors"] or lag_s is None or lag_s["p95"] >= LAG_LIMIT_S:
            break
        most = row["streams"]
    return most


def added(rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Give, for each number of streams, the lag and the CPU that the fleet has more."""
    by_server = {(row["server"], row["streams"]): row for row in rows}
    found: list[dict[str, float]] = []
    for (server, streams), row in by_server.items():
        alone = by_server.get(("serve", streams))
        if server != "fleet" or alone is None or not (row["lag_s"] and alone["lag_s"]):
            continue
        found.append(
            {
                "streams": streams,
                "lag_p50_s": round(row["lag_s"]["p50"] - alone["lag_s"]["p50"], 4),
                "lag_p95_s": round(row["lag_s"]["p95"] - alone["lag_s"]["p95"], 4),
                "cpu": round(row["server_cpu"] - alone["server_cpu"], 4),
            }
        )
    return found


if __name__ == "__main__":
    main()
