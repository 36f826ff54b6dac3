"""A real Chromium for the caption page, and a server's side of the wire that a test writes itself."""

import json
import shutil
import wave
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
import soundfile
import soxr
from playwright.sync_api import Browser, Page, WebSocketRoute, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox",  # CI runs as root, where Chromium's sandbox refuses to start
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
CAPTURE_HZ = 48_000
BYTES_PER_S = 32_000
"""Of the sound on the wire: 16 kHz, 16 bits."""
PATIENCE_MS = 30_000
DEPTHS = (8, 4, 2, 1)


def microphone_flags(clip: Path) -> list[str]:
    """Have a clip come out of a microphone that needs no asking."""
    return [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={clip}%noloop",
    ]


@contextmanager
def chromium() -> Generator[Callable[..., Browser]]:
    """Give what starts the machine's Chromium; the test is skipped where there is none."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"expected one of {', '.join(NAMES)} on the PATH, found none")
    with sync_playwright() as playwright:
        # Whatever was started ends with Playwright.
        yield lambda *flags: playwright.chromium.launch(executable_path=path, args=[*QUIET, *flags])


@contextmanager
def opened(page: Page, url: str) -> Generator[Page]:
    """Open the page and leave it again; an error in its scripts fails the test."""
    page.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []

    def note(error: object) -> None:
        faults.append(str(error))

    page.on("pageerror", note)
    page.goto(url)
    try:
        yield page
    finally:
        page.goto("about:blank")  # closes sockets and sound
        page.remove_listener("pageerror", note)
    assert not faults


def recorded(path: Path, clip: Path, *, before_s: float = 0.5, after_s: float = 2.0) -> Path:
    """Write a clip as Chromium's microphone wants it, with silence around it."""
    samples, rate_hz = soundfile.read(clip, dtype="float32")
    samples = soxr.resample(samples, rate_hz, CAPTURE_HZ)
    before, after = (np.zeros(round(s * CAPTURE_HZ), np.float32) for s in (before_s, after_s))
    pcm = (np.concatenate([before, samples, after]).clip(-1, 1) * 32_767).astype("<i2")
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(CAPTURE_HZ)
        writer.writeframes(pcm.tobytes())
    return path


@dataclass
class Connection:
    """One connection as the server's side sees it."""

    route: WebSocketRoute
    pcm: bytes = b""
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.route.url).query))

    def send(self, kind: str, **message: Any) -> None:
        self.route.send(json.dumps({"type": kind, **message}))

    def close(self, code: int) -> None:
        self.route.close(code=code)

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]


@dataclass
class Wire:
    """The server's side of `/v1/stream`, for what a healthy server does not do on demand."""

    greet: bool = True
    connections: list[Connection] = field(default_factory=list[Connection])

    def attach(self, page: Page) -> None:
        page.route_web_socket("**/v1/stream?*", self._accept)

    @property
    def last(self) -> Connection:
        return self.connections[-1]

    def _accept(self, route: WebSocketRoute) -> None:
        connection = Connection(route)
        self.connections.append(connection)

        def take(message: str | bytes) -> None:
            if isinstance(message, bytes):
                connection.pcm += message
                return
            connection.messages.append(json.loads(message))
            if connection.messages[-1]["type"] == "stop":
                connection.send("done")
                connection.close(1000)

        route.on_message(take)
        if self.greet:
            connection.send("ready", layers_total=8, layers=8, limits={"max_buffer_s": 10})


def until(page: Page, condition: Callable[[], object]) -> None:
    """Let the browser go on until a condition holds."""
    for _ in range(PATIENCE_MS // 20):
        if condition():
            return
        page.wait_for_timeout(20)
    raise AssertionError("expected the condition to hold by now, it does not")


def speak(page: Page, wire: Wire) -> None:
    """Start the microphone and wait until half a second of sound has come over the wire."""
    page.get_by_role("button", name="Microphone").click()
    until(page, lambda: wire.connections and len(wire.last.pcm) >= BYTES_PER_S // 2)
