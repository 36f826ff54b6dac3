"""A load step on a running fleet: streams come at once, and what the fleet does is written down.

    asr fleet &
    python -m benchmarks.fleet_step --url http://127.0.0.1:8000 --base 10 --peak 90 \
        --step-at 60 --seconds 240 --hold 600 --out benchmarks/results/fleet-step_MACHINE_DATE.json

Clients send packets by the clock, go on elsewhere when their server asks them to or is gone (they are
those of `asr stream`), and ask again after `--retry` seconds when they are refused. Each second the
replicas' own reports are read from `/fleet`; lag is what clients measure. `--hold` adds seconds of
constant load behind the step, for flapping. The moments are those of `benchmarks.fleet_simulate`.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from benchmarks.capacity_log import PACKET_S, StreamLog
from benchmarks.hardware import read_environment
from benchmarks.load import AUDIO, packets, read_clips
from benchmarks.record import Run, document
from benchmarks.simulator.fleet_scores import Moment, timeline_summary
from service.cli.resume_state import Message, Missing
from service.cli.resuming import ResumingStream

READ_EVERY_S = 1.0
STAGGER_S = 1.0
PAUSE_S = 2.0


@dataclass(slots=True)
class Tally:
    """What all clients saw.

    Args:
        lags_s: since the last reading.
    """

    lags_s: list[float] = field(default_factory=list[float])
    all_lags_s: list[float] = field(default_factory=list[float])
    speaking: int = 0
    waiting: int = 0
    refused: int = 0
    missing_s: float = 0.0
    moved: int = 0
    lost: int = 0
    failures: list[str] = field(default_factory=list[str])


class SteppedClient:
    """One stream; the listener of a `ResumingStream`.

    Args:
        tally: of all.
        sound: packets of 100 ms.
    """

    def __init__(self, tally: Tally, sound: Sequence[bytes]) -> None:
        self._tally = tally
        self._sound = sound
        self._log: StreamLog | None = None
        self._connections = 0

    def tell(self, message: Message) -> None:
        """Take a message."""
        if message["type"] == "ready":
            self._connections += 1
            self._tally.moved += self._connections > 1
        # Warnings of a fleet have no stretch of dropped sound; those that have are in `miss`.
        if self._log is None or message["type"] not in {"partial", "final", "lag"}:
            return
        known = len(self._log.lag_s)
        self._log.take(message, time.monotonic())
        self._tally.lags_s += self._log.lag_s[known:]
        self._tally.all_lags_s += self._log.lag_s[known:]

    def miss(self, missing: Missing) -> None:
        """Learn that sound is lost."""
        self._tally.missing_s += missing.end_s - missing.start_s

    def wait(self, reason: str) -> None:
        """Learn that nobody is there."""
        del reason
        self._tally.lost += 1

    async def speak(self) -> AsyncIterator[bytes]:
        """Give packets when they are due."""
        start_s = time.monotonic()
        self._log = StreamLog(start_s, len(self._sound))
        for place, packet in enumerate(self._sound):
            await asyncio.sleep(max(0.0, start_s + (place + 1) * PACKET_S - time.monotonic()))
            yield packet


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parse(arguments)
    content = asyncio.run(run_step(options))
    if options.out is not None:
        options.out.write_text(json.dumps(content) + "\n", encoding="utf-8")
    print(json.dumps({**content, "results": [{**content["results"][0], "moments": "..."}]}))


async def run_step(options: argparse.Namespace) -> dict[str, Any]:
    """Play the load, and give the result file's content."""
    tally, moments, changes = Tally(), list[Moment](), list[tuple[float, int]]()
    clips = read_clips(options.audio)
    end_s = options.seconds + options.hold
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_read(options, tally, moments, changes))
        clients = [
            group.create_task(_client(options, tally, clips, place, begins_s, end_s - begins_s))
            for place, begins_s in enumerate(
                beginnings(options.base, options.peak, options.step_at)
            )
        ]
        await asyncio.wait(clients)
        reading.cancel()
    lags_s = sorted(tally.all_lags_s)
    row = {
        "what": "run", "mode": "real", "load": "step", "peak": options.peak,
        "system": options.system, **timeline_summary(moments),
        "lag_s": {f"p{at}": round(lags_s[int(len(lags_s) * at / 100)], 4) for at in (50, 95, 99)}
        if lags_s else None,
        "refused": tally.refused, "moves": tally.moved, "waited_for_server": tally.lost,
        "missing_s": round(tally.missing_s, 2), "failures": tally.failures,
        "decisions": changes, "moments": [list(asdict(one).values()) for one in moments],
    }  # fmt: skip
    config = {
        name: str(value.name) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name not in {"out", "url"}
    }
    run = Run(
        benchmark="fleet-step",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={**config, "moment": list(Moment.__dataclass_fields__)},
        warm_up=0,
        repeats=1,
    )
    return document(run, [row])


def moment_of(
    at_s: float, replicas: Sequence[dict[str, Any]], tally: Tally, *, full_layers: float
) -> Moment:
    """Put together what replicas say and what clients saw since the last time."""
    lags_s, tally.lags_s = tally.lags_s, []
    streams = [
        (int(one["streams"]), full_layers * (1 - float(one["depth_debt"]))) for one in replicas
    ]
    return Moment.of(
        at_s, lags_s, streams, coming=0, waiting=tally.waiting, full_layers=full_layers
    )


def beginnings(base: int, peak: int, step_at_s: float) -> list[float]:
    """Give when each stream begins."""
    more = peak - base
    return [STAGGER_S * place / max(1, base) for place in range(base)] + [
        step_at_s + STAGGER_S * place / max(1, more) for place in range(more)
    ]


def replica_changes(moments: Sequence[Moment]) -> list[tuple[float, int]]:
    """Give when the number of replicas changed, and to what."""
    return [
        (after.at_s, after.replicas)
        for before, after in pairwise(moments)
        if after.replicas != before.replicas
    ]


async def _client(
    options: argparse.Namespace,
    tally: Tally,
    clips: Sequence[Any],
    place: int,
    begins_s: float,
    seconds: float,
) -> None:
    await asyncio.sleep(begins_s)
    ends_at_s = time.monotonic() + seconds
    url = f"{options.url.replace('http', 'ws', 1).rstrip('/')}/v1/stream?drop={options.drop}"
    was_refused = False
    while (left_s := ends_at_s - time.monotonic()) > PACKET_S:
        client = SteppedClient(tally, packets(clips, place, pause_s=PAUSE_S, seconds=left_s))
        stream = ResumingStream(url, options.url, client)
        tally.speaking += 1
        try:
            await stream.run(client.speak())
        except* ConnectionError as errors:
            if stream.kept.covered_s:
                tally.failures.append(str(errors.exceptions[0])[:200])
            elif not was_refused:
                was_refused = True
                tally.refused += 1
        else:
            return
        finally:
            tally.speaking -= 1
        tally.waiting += 1
        await asyncio.sleep(min(options.retry, max(0.0, ends_at_s - time.monotonic())))
        tally.waiting -= 1


async def _read(
    options: argparse.Namespace,
    tally: Tally,
    moments: list[Moment],
    changes: list[tuple[float, int]],
) -> None:
    started_s = time.monotonic()
    async with httpx.AsyncClient(timeout=5.0) as client:
        while True:
            await asyncio.sleep(READ_EVERY_S)
            try:
                answer = await client.get(f"{options.url.rstrip('/')}/fleet")
                replicas = answer.raise_for_status().json()["replicas"]
            except httpx.HTTPError as error:
                tally.failures.append(f"/fleet: {type(error).__name__}")
                continue
            at_s = time.monotonic() - started_s
            moments.append(moment_of(at_s, replicas, tally, full_layers=options.layers))
            changes[:] = replica_changes(moments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the fleet")
    parser.add_argument("--base", type=int, default=10, help="streams before the step")
    parser.add_argument("--peak", type=int, default=90, help="streams behind it")
    parser.add_argument("--step-at", type=float, default=60.0, help="seconds")
    parser.add_argument("--seconds", type=float, default=240.0, help="of the step's run")
    parser.add_argument("--hold", type=float, default=0.0, help="more seconds, for flapping")
    parser.add_argument(
        "--retry", type=float, default=5.0, help="of those who are refused, seconds"
    )
    parser.add_argument("--drop", default="auto", help="what streams ask for")
    parser.add_argument("--layers", type=float, default=8.0, help="of the model")
    parser.add_argument("--system", default="both", help="its name in tables and figures")
    parser.add_argument("--audio", type=Path, default=AUDIO, help="folder of speech")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
