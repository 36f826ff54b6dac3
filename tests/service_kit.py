"""What tests of the service stand on: wav files, a clock to turn, an app that runs, a raw client."""

import asyncio
import io
import json
import threading
import time
import wave
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry

from service.app import Service, create_service
from service.engine.base import Engine, PlanInUse, Window
from service.engine.fake import FakeEngine
from service.settings import Settings

PATIENCE_S = 20
"""Seconds after which a test is stuck; nothing that passes comes near."""


def wav_bytes(duration_s: float, *, peak: float = 0.1, rate_hz: int = 16_000) -> bytes:
    """A tone, or silence at peak 0, as 16-bit mono wav."""
    tone = np.sin(np.arange(round(duration_s * rate_hz)) / 10) * peak * 32_767
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(tone.astype("<i2").tobytes())
    return file.getvalue()


@dataclass
class FakeClock:
    """Seconds that pass when a test says so."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class Turnstile:
    """A step hook that lets engine steps through one by one, and remembers them."""

    def __init__(self) -> None:
        self._permits = threading.Semaphore(0)
        self.started: list[tuple[Window, ...]] = []
        self._changed = threading.Condition()

    def __call__(self, windows: Any, _plan: PlanInUse) -> None:
        with self._changed:
            self.started.append(tuple(windows))
            self._changed.notify_all()
        assert self._permits.acquire(timeout=PATIENCE_S), "expected a permit, got none"

    def let_through(self, num_steps: int = 1) -> None:
        self._permits.release(num_steps)

    async def wait_for_step(self, number: int) -> None:
        """Wait until so many steps have started."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: len(self.started) >= number, PATIENCE_S)

        assert await asyncio.to_thread(wait), f"expected step {number} to start, got none"


@dataclass
class Running:
    """A service whose lifespan has begun, and a client in the same process."""

    service: Service
    client: httpx.AsyncClient
    registry: CollectorRegistry

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    async def transcribe(self, query: str = "", content: bytes = b"") -> httpx.Response:
        return await self.client.post(f"/transcribe?{query}", content=content or wav_bytes(1))

    def open_request(self, path: str, headers: Mapping[str, str] | None = None) -> "RawRequest":
        request = RawRequest(self.service, path, dict(headers or {}))
        request.start()
        return request


@asynccontextmanager
async def running(
    engine: Engine | None = None, *, wait_for_model: bool = True, **settings: Any
) -> AsyncGenerator[Running]:
    """Run the whole app on an engine, the fake one unless told otherwise."""
    registry = CollectorRegistry()
    # On a thread, as it is built before the loop runs: it reads its version from the disk.
    service = await asyncio.to_thread(
        create_service, Settings(**settings), engine or FakeEngine(), registry, time.monotonic
    )
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    async with (
        service.app.router.lifespan_context(service.app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        if wait_for_model:
            await until(lambda: service.admission.phase.value != "loading")
        yield Running(service, client, registry)


async def until(condition: Callable[[], object]) -> None:
    """Give the other tasks and threads room until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 threads have no asyncio.Event to set
            await asyncio.sleep(0.001)


@dataclass
class RawRequest:
    """A POST driven message by message, for what a well-behaved client never does."""

    service: Service
    path: str
    headers: dict[str, str]
    status: int | None = None
    answer_headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    num_taken: int = 0
    _incoming: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue[dict[str, Any]])

    def start(self) -> None:
        path, _, query = self.path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in self.headers.items()],
            "client": ("test", 1),
            "server": ("test", 80),
        }
        self.task = asyncio.ensure_future(self.service.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        message = await self._incoming.get()
        self.num_taken += 1
        return message

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.answer_headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.body += message.get("body", b"")

    def send(self, body: bytes, *, more: bool = True) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def disconnect(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def answered(self) -> None:
        await until(lambda: self.status is not None and self.body)

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.task

    @property
    def code(self) -> str:
        return json.loads(self.body)["error"]["code"]
