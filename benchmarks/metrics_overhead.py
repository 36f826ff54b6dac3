"""What the metrics cost: the same work by the same engine, counted and not counted.

    taskset -c 0 python -m benchmarks.metrics_overhead --clip FILE... > metrics-overhead.json

Two whole apps share one engine. One has the service's metrics; in the other whatever is counted goes
nowhere. A clip is done by both, in turn, the one that begins changing, so that a slow moment of the
machine meets both. What counts is CPU time of the process: throughput is its inverse, and a neighbour
disturbs it least. A file is posted to `/transcribe`; a stream sends the clip to `/v1/stream` as fast
as it is taken. What a scrape costs is measured apart, and its share is that of one every five seconds.
"""

import argparse
import asyncio
import io
import json
import time
import wave
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from benchmarks.capacity import PACKET_BYTES, Samples, pcm
from benchmarks.hardware import read_environment
from benchmarks.record import Run, Spread, document
from model_store.audio import SAMPLE_RATE_HZ, read_audio
from service.app import create_service
from service.engine import create_engine
from service.metrics import Metrics, create_metrics
from service.settings import Settings

Message = dict[str, Any]  # Any: ASGI's
POLL_S = 0.05
SCRAPES = 50
SCRAPE_INTERVAL_S = 5.0
"""As in docker/prometheus/prometheus.yml."""


class Nowhere:
    """A series that keeps nothing."""

    def labels(self, *_values: str) -> "Nowhere":
        """Give itself for every set of labels."""
        return self

    def take(self, *_anything: object) -> None:
        """Forget a number."""

    inc = dec = set = observe = set_function = take

    def track_inprogress(self) -> AbstractContextManager[None]:
        """Count nobody in or out."""
        return nullcontext()


def uncounted(_registry: CollectorRegistry) -> Metrics:
    """Give metrics that keep nothing."""
    real = create_metrics(CollectorRegistry())
    groups: list[Any] = []
    for group in fields(Metrics):
        series = type(getattr(real, group.name))
        groups.append(series(*[cast("Any", Nowhere()) for _ in fields(series)]))
    return Metrics(*groups)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parse(arguments)
    environment = read_environment()
    clips = [read_audio(path) for path in options.clip]
    rows = asyncio.run(measure(clips, options))
    run = Run(
        benchmark="metrics-overhead",
        started=datetime.now(UTC),
        environment=environment,
        config={
            "engine": options.engine,
            "clips": len(clips),
            "clips_s": round(sum(map(len, clips)) / SAMPLE_RATE_HZ, 1),
        },
        warm_up=1,
        repeats=options.repeats,
    )
    print(json.dumps(document(run, rows)))


async def measure(clips: Sequence[Samples], options: argparse.Namespace) -> list[Message]:
    """Do every clip in pairs, as a file and as a stream."""
    # Full depth for both, and nobody refused: a slow moment must not change the work.
    settings = Settings(
        engine=options.engine,
        stream_burst_s=3600.0,
        stream_max_speed=1000.0,
        controller="fixed",
        early_refusal=False,
    )
    engine = create_engine(
        options.engine,
        model=settings.model,
        num_threads=1,
        cache=settings.engine_cache,
        fake_realtime_factor=0.0,
    )
    async with AsyncExitStack() as stack:
        apps: dict[str, ASGIApp] = {}
        for name, make in (("counted", create_metrics), ("uncounted", uncounted)):
            with patch("service.app.create_metrics", make):
                service = create_service(settings, engine, CollectorRegistry(), time.monotonic)
            await stack.enter_async_context(service.app.router.lifespan_context(service.app))
            while service.admission.phase.value == "loading":  # noqa: ASYNC110 a thread loads
                await asyncio.sleep(POLL_S)
            apps[name] = service.app
        rows = [
            await compared(kind, work, apps, clips, options.repeats)
            for kind, work in (("file", post), ("stream", stream))
        ]
        return [*rows, await scraped(apps["counted"])]


async def scraped(app: ASGIApp) -> Message:
    """Time what Prometheus asks for, once everything has been counted."""
    took_s: list[float] = []
    for _ in range(SCRAPES):
        started_s = time.process_time()
        await request(app, "GET", "/metrics", b"")
        took_s.append(time.process_time() - started_s)
    spread = Spread.of(took_s)
    share = spread.median / SCRAPE_INTERVAL_S
    return {"work": "scrape", "cpu_s": asdict(spread), "share_of_a_core": round(share, 6)}


async def compared(
    kind: str,
    work: Callable[[ASGIApp, Samples], Any],
    apps: dict[str, ASGIApp],
    clips: Sequence[Samples],
    repeats: int,
) -> Message:
    """Time pairs; the first round only warms up."""
    spent: dict[str, list[float]] = {name: [] for name in apps}
    for turn in range(repeats + 1):
        for place, clip in enumerate(clips):
            names = list(apps) if (turn + place) % 2 else list(apps)[::-1]
            for name in names:
                started_s = time.process_time()
                await work(apps[name], clip)
                if turn:
                    spent[name].append(time.process_time() - started_s)
    ratios = [one / other for one, other in zip(spent["counted"], spent["uncounted"], strict=True)]
    order = np.sort(ratios)
    # Binomial 95 % interval of the median, by rank.
    reach = 0.98 * np.sqrt(len(order))
    low, high = (
        order[int(np.clip(len(order) / 2 + s * reach, 0, len(order) - 1))] for s in (-1, 1)
    )
    sums = {name: sum(values) for name, values in spent.items()}
    return {
        "work": kind,
        "pairs": len(ratios),
        "cpu_s": {name: round(value, 3) for name, value in sums.items()},
        "cpu_ratio": asdict(Spread.of([round(ratio, 4) for ratio in ratios])),
        "cpu_ratio_median_95": [round(float(low), 4), round(float(high), 4)],
        "cpu_ratio_of_sums": round(sums["counted"] / sums["uncounted"], 4),
    }


async def post(app: ASGIApp, clip: Samples) -> None:
    """Transcribe a clip as a file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(pcm(clip))
    await request(app, "POST", "/transcribe", file.getvalue())


async def request(app: ASGIApp, method: str, path: str, body: bytes) -> None:
    """Ask in this process, without a socket."""
    scope = _scope("http", path) | {"method": method, "http_version": "1.1"}
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
    statuses: list[int] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, incoming.get, send)
    assert statuses == [200], f"expected 200 of {path}, got {statuses}"


async def stream(app: ASGIApp, clip: Samples) -> None:
    """Transcribe a clip as a live stream that nobody paces."""
    scope = _scope("websocket", "/v1/stream") | {"subprotocols": []}
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    incoming.put_nowait({"type": "websocket.connect"})
    sound = pcm(clip)
    for at in range(0, len(sound), PACKET_BYTES):
        packet = sound[at : at + PACKET_BYTES]
        incoming.put_nowait({"type": "websocket.receive", "bytes": packet})
    incoming.put_nowait({"type": "websocket.receive", "text": json.dumps({"type": "stop"})})
    codes: list[int] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "websocket.close":
            codes.append(message["code"])

    await app(scope, incoming.get, send)
    assert codes == [1000], f"expected close 1000, got {codes}"


def _scope(kind: str, path: str) -> Message:
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"drop=0" if path != "/metrics" else b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, required=True, nargs="+")
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--repeats", type=int, default=5, help="times every clip is done in pairs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
