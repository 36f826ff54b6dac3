"""How many streams one depth keeps up with: p95 lag under a second, no fault, nothing dropped."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from benchmarks.capacity_server import PinnedServer
from benchmarks.slo_cell import Conditions, Voices, cell_row, load_streams, server_settings
from benchmarks.slo_metrics import read_metrics
from benchmarks.slo_summary import keeps_up
from benchmarks.slo_systems import Cell, systems

logger = logging.getLogger(__name__)

FIRST_STREAMS = 8
MOST_STREAMS = 256
CLOSE_ENOUGH = 0.08
"""Of the answer: a search ends when what fails is no further above what holds."""
PROBE_WARM_UP_S = 6.0


def most_streams(holds: Callable[[int], bool], first: int = FIRST_STREAMS) -> int:
    """Find the most streams that hold, by doubling and then halving; 0 if one does not.

    Args:
        holds: whether so many are kept up with; believed to fall with the number.
        first: where to begin.
    """
    good, bad = 0, MOST_STREAMS + 1
    tried = min(first, MOST_STREAMS)
    while bad - good > max(1, CLOSE_ENOUGH * good):
        if holds(tried):
            good = tried
        else:
            bad = tried
        tried = min(2 * good, bad - 1) if bad > MOST_STREAMS else (good + bad) // 2
        if tried <= good:
            break
    return good


def measure_capacity(
    name: str,
    drop: float,
    conditions: Conditions,
    voices: Voices,
    *,
    probe_s: float,
    first: int = FIRST_STREAMS,
) -> dict[str, object]:
    """Find how many streams a depth keeps up with, on one server; give a row with every try.

    Args:
        name: of the row.
        drop: of the depth.
        conditions: of the run.
        voices: who speak.
        probe_s: of a try; what holds for 20 s may be too much for 60.
        first: streams of the first one.
    """
    tries: list[dict[str, object]] = []
    environment = server_settings("fixed-full", systems()["fixed-full"], conditions)
    environment["ASR_MAX_STREAMS"] = str(MOST_STREAMS)
    with PinnedServer(conditions.server_core, environment) as server:
        uri = f"ws://127.0.0.1:{server.port}/v1/stream?drop={drop:g}"

        def holds(streams: int) -> bool:
            row, kept = asyncio.run(_probe(uri, streams, conditions, voices, probe_s))
            tries.append(row | {"keeps_up": kept})
            logger.info("%s: %d streams, lag %s, %s", name, streams, row["lag_s"], kept)
            return kept

        found = most_streams(holds, first)
    return {"cell": name, "kind": "capacity", "drop": drop, "streams": found, "tries": tries}


def floor_drop(conditions: Conditions) -> float:
    """Ask a server under the controller how much depth it may give up at most.

    Raises:
        SystemExit: it does not say.
    """
    system = systems()["brownout"]
    environment = server_settings("brownout", system, conditions)
    with PinnedServer(conditions.server_core, environment) as server:
        values = read_metrics(server.port)
    floor, full = values.get("asr_depth_floor_layers", 0.0), values.get("asr_depth_layers", 0.0)
    if not 0 < floor <= full:
        raise SystemExit(
            f"expected a server that says its floor and depth, got {floor:g} and {full:g} layers; "
            "give --floor-drop"
        )
    return 1 - floor / full


async def _probe(
    uri: str, streams: int, conditions: Conditions, voices: Voices, probe_s: float
) -> tuple[dict[str, object], bool]:
    length_s = PROBE_WARM_UP_S + probe_s
    scripts = voices.scripts([length_s] * streams, conditions.pause_s)
    begin_s = time.monotonic() + 0.5
    heard = list(await asyncio.gather(*await load_streams(uri, scripts, begin_s)))
    cell = Cell(f"probe-{streams}", "fixed-full", "", streams)
    window = begin_s + PROBE_WARM_UP_S, begin_s + length_s
    row = cell_row(cell, heard, scripts, window, replace(voices, timed={}))
    kept = keeps_up(row, heard)
    names = ("streams", "in_time_share", "lag_s", "dropped_s", "errors", "client_late_s")
    return {name: row[name] for name in names}, kept
