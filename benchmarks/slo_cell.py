"""Running one cell: a server of its own on one core, streams from another, and both their accounts."""

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.capacity_server import SERVE, PinnedServer
from benchmarks.slo_metrics import gained, gauges, read_metrics
from benchmarks.slo_score import TimedWords, Window, collect
from benchmarks.slo_sound import Clip, Script, make_script, speech_share
from benchmarks.slo_stream import Heard, stream
from benchmarks.slo_summary import admission, promises, recovery_s, summarise
from benchmarks.slo_switching import read_tally
from benchmarks.slo_systems import LIGHT_STREAMS, Cell, System

logger = logging.getLogger(__name__)

STAGGER_S = 2.0
"""Streams begin within so long, so that their chunks are not all due at once."""
MARGIN_S = 1.0
"""Streams speak on for so long after a window: how they end is not in it."""
CLOSING_S = 20.0
"""Time that finals have once everything is said; more than a stream may be behind before it drops."""
WATCH_EVERY_S = 5.0
SAME_FOR_ALL = {"ASR_TWO_PASS_FINALS": "false", "ASR_EARLY_REFUSAL": "false"}
"""One-pass finals; and the places alone say who is refused, so that no system chooses its load."""
OPEN_DOOR = 1024
"""Places where the service itself says who is one too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What all cells share.

    Args:
        warm_up_s, seconds: before a window, and of it.
        settle_s, constant_s: the same under constant load.
        tail_s: after a load's end.
        pause_s: between two clips.
        partial_interval_s: fixed for all systems but the one that bends everything.
        max_streams: places of a server.
        server_core, client_core: which run where.
        settings: of every server.
        system_settings: more of them, by system.
        second: the static model of the system that switches.
        switch_above_s, switch_below_s: of a step's time, when it does.
        folder: where servers leave their tallies.
    """

    warm_up_s: float
    seconds: float
    settle_s: float
    constant_s: float
    tail_s: float
    pause_s: float
    partial_interval_s: float
    max_streams: int
    server_core: int
    client_core: int
    settings: Mapping[str, str]
    system_settings: Mapping[str, Mapping[str, str]]
    second: str
    switch_above_s: float
    switch_below_s: float
    folder: Path


@dataclass(frozen=True, slots=True)
class Voices:
    """What is said, and when an unloaded pass hears its words end."""

    clips: Sequence[Sequence[Clip]]
    timed: Mapping[str, TimedWords]

    def scripts(self, lengths_s: Sequence[float], pause_s: float) -> list[Script]:
        """Write what streams of those lengths say, each from its place on."""
        return [
            make_script(self.clips, place, pause_s=pause_s, seconds=length_s)
            for place, length_s in enumerate(lengths_s)
        ]


def run_cell(
    cell: Cell, system: System, conditions: Conditions, voices: Voices
) -> dict[str, object]:
    """Run one cell and give its row."""
    tally = conditions.folder / f"{cell.id}.tally"
    tally.unlink(missing_ok=True)
    program = SERVE if system.server == "service" else _switching(conditions, tally)
    environment = server_settings(cell.system, system, conditions)
    with PinnedServer(conditions.server_core, environment, program) as server:
        uri = f"ws://127.0.0.1:{server.port}/v1/stream?drop={system.drop}"
        return asyncio.run(_run(cell, uri, server, conditions, voices, tally))


def server_settings(name: str, system: System, conditions: Conditions) -> dict[str, str]:
    """Give a server's settings; what is given for one system goes before what all share."""
    settings = {"ASR_MAX_STREAMS": str(OPEN_DOOR)}
    if not system.bends:
        settings = SAME_FOR_ALL | {
            "ASR_MAX_STREAMS": str(conditions.max_streams),
            "ASR_PARTIAL_INTERVAL_S": f"{conditions.partial_interval_s:g}",
        }
    settings |= dict(conditions.settings) | dict(system.settings)
    return settings | dict(conditions.system_settings.get(name, {}))


def phases_s(cell: Cell, conditions: Conditions) -> tuple[float, float]:
    """How long a cell warms up, and how long its window is."""
    if cell.kind == "constant":
        return conditions.settle_s, conditions.constant_s
    return conditions.warm_up_s, conditions.seconds


async def load_streams(
    uri: str, scripts: Sequence[Script], begin_s: float
) -> "list[asyncio.Task[Heard]]":
    """Start a stream for each script, spread over a moment."""
    return [
        asyncio.create_task(
            stream(uri, script.sound, begin_s + STAGGER_S * place / len(scripts), CLOSING_S)
        )
        for place, script in enumerate(scripts)
    ]


async def _run(
    cell: Cell,
    uri: str,
    server: PinnedServer,
    conditions: Conditions,
    voices: Voices,
    tally: Path,
) -> dict[str, object]:
    warm_up_s, seconds = phases_s(cell, conditions)
    length_s = warm_up_s + seconds
    light = min(LIGHT_STREAMS, cell.streams) if cell.kind == "load-end" else 0
    # Those that go on come first, so that no place is lacking for them.
    spoken_s = length_s + MARGIN_S
    lengths_s = [spoken_s + conditions.tail_s] * light + [spoken_s] * (cell.streams - light)
    scripts = voices.scripts(lengths_s, conditions.pause_s)
    begin_s = time.monotonic() + 0.5
    window = begin_s + warm_up_s, begin_s + length_s
    tasks = await load_streams(uri, scripts, begin_s)
    watching = asyncio.create_task(_watch(server.port, begin_s))
    account = await _account(server, window, tally)
    try:
        heard = list(await asyncio.gather(*tasks))
    finally:
        watching.cancel()
    row = cell_row(cell, heard, scripts, window, voices)
    row |= account
    row["watched"] = await _stopped(watching)
    row |= {"speech_share": round(speech_share(scripts), 4)}
    if light:
        ended_s = max(one.start_s for one in heard[light:]) + spoken_s
        row["recovery_s"] = recovery_s(heard[:light], ended_s)
    return row


def cell_row(
    cell: Cell,
    heard: Sequence[Heard],
    scripts: Sequence[Script],
    window: Window,
    voices: Voices,
) -> dict[str, object]:
    """Give what the client knows of a cell."""
    figures = collect(heard, scripts, window, voices.timed)
    told = summarise(figures)
    return {
        "cell": cell.id,
        "system": cell.system,
        "load": cell.load,
        "kind": cell.kind,
        "streams": cell.streams,
        **told,
        **admission(heard),
        "keeps": promises(told),
    }


async def _account(server: PinnedServer, window: Window, tally: Path) -> dict[str, object]:
    """Give what the server says, and what it used, between two moments."""
    await asyncio.sleep(max(0.0, window[0] - time.monotonic()))
    before, cpu_s, opened = await _metrics(server.port), server.cpu_s(), read_tally(tally)
    began_s = time.monotonic()
    client_s = _own_cpu_s()
    await asyncio.sleep(max(0.0, window[1] - time.monotonic()))
    after, took_s = await _metrics(server.port), time.monotonic() - began_s
    served = gained(before, after)
    first, second = (b - a for a, b in zip(opened, read_tally(tally), strict=True))
    full = served.get("asr_estimated_flops_full_total", 0.0)
    used = served.get("asr_estimated_flops_total", 0.0)
    return {
        "server": served,
        "flops_share": round(used / full, 4) if full else None,
        "gflop_per_s": round(used / took_s / 1e9, 3),
        "server_cpu": round((server.cpu_s() - cpu_s) / took_s, 4),
        "client_cpu": round((_own_cpu_s() - client_s) / took_s, 4),
        "server_memory_bytes": server.memory_bytes(),
        "second_model_share": round(second / (first + second), 4) if first + second else None,
    }


async def _metrics(port: int) -> dict[str, float]:
    try:
        return await asyncio.to_thread(read_metrics, port)
    except (OSError, ValueError) as error:  # a server too busy to say; the cell's figures stand
        logger.warning("expected metrics, got %s", error)
        return {}


async def _watch(port: int, begin_s: float) -> list[dict[str, float]]:
    """Look at the gauges now and then, until cancelled."""
    found: list[dict[str, float]] = []
    with suppress(asyncio.CancelledError):
        while True:
            values = gauges(await _metrics(port))
            found.append({"at_s": round(time.monotonic() - begin_s, 2), **values})
            await asyncio.sleep(WATCH_EVERY_S)
    return found


async def _stopped(watching: "asyncio.Task[list[dict[str, float]]]") -> list[dict[str, float]]:
    try:
        return await watching
    except asyncio.CancelledError:  # before it ever ran
        return []


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _switching(conditions: Conditions, tally: Path) -> tuple[str, ...]:
    return (
        "benchmarks.slo_server", "--second", conditions.second,
        "--above", str(conditions.switch_above_s), "--below", str(conditions.switch_below_s),
        "--tally", str(tally),
    )  # fmt: skip
