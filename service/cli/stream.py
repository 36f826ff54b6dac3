"""`asr stream`: a file or the microphone to a server, captions to stdout as they come."""

import asyncio
import json
import math
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from service.cli.sound import microphone, paced, pcm_packets
from service.engine.base import SAMPLE_RATE_HZ, DepthChoice
from service.engine.sound import read_sound
from service.errors import CallerError, ParameterInvalid

PATH = "/v1/stream"
OPEN_TIMEOUT_S = 10.0
SCHEMES = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}
DEFAULT_COLUMNS = 80

Message = dict[str, Any]  # Any: JSON, at the edge


@dataclass(frozen=True, slots=True)
class StreamCommand:
    """What the command line asked for; without a file the microphone is streamed."""

    url: str
    file: Path | None
    choice: DepthChoice
    json_lines: bool
    key: str | None = field(default=None, repr=False)
    hotwords: tuple[str, ...] = ()


class Teller:
    """Writes what the server says: captions for people, or every message as a line of JSON.

    Args:
        out: takes finals as lines, and on a terminal partials on one line that changes.
        err: takes what went wrong.
        json_lines: write messages instead.
    """

    def __init__(self, out: TextIO, err: TextIO, *, json_lines: bool) -> None:
        self._out = out
        self._err = err
        self._json_lines = json_lines
        self._shows_partials = out.isatty() and not json_lines
        self.failure = ""
        self.is_done = False

    def tell(self, message: Message) -> None:
        """Take one message."""
        kind = message.get("type")
        self.is_done = self.is_done or kind == "done"
        if kind == "error":
            self.failure = _failure(message)
        if self._json_lines:
            self._out.write(json.dumps(message, ensure_ascii=False) + "\n")
        elif kind == "partial" and self._shows_partials:
            columns = shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns
            # The end of a long line is what has just been said.
            self._out.write(f"\r\x1b[K{message['text'][-(columns - 1) :]}")
        elif kind == "final" and message["text"]:
            self._out.write(f"{self._wipe()}{message['text']}\n")
        elif kind == "warning":
            missing_s = message["end"] - message["start"]
            self._err.write(f"{self._wipe()}asr: {missing_s:.1f} s of sound were dropped\n")
        self._out.flush()

    def complain(self, reason: str) -> None:
        """Say what went wrong."""
        self._err.write(f"{self._wipe()}asr: {reason}\n")

    def _wipe(self) -> str:
        return "\r\x1b[K" if self._shows_partials else ""


def run(command: StreamCommand, out: TextIO, err: TextIO) -> int:
    """Stream until the sound ends or an interrupt comes; a second interrupt does not wait.

    Returns:
        0, or 1 when the server, the file or the microphone could not be used.

    Raises:
        ParameterInvalid: the address is none of a server.
    """
    url = stream_url(command.url, command.choice)
    return asyncio.run(_run(command, url, Teller(out, err, json_lines=command.json_lines)))


def stream_url(url: str, choice: DepthChoice) -> str:
    """Make the address of a stream from that of a server.

    Raises:
        ParameterInvalid: the address is none of a server.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise ParameterInvalid(f"expected a URL like http://127.0.0.1:8000, got {url!r}")
    path = parts.path.rstrip("/")
    query = {"sample_rate": SAMPLE_RATE_HZ, "drop": choice.drop, "policy": choice.policy}
    if choice.max_drop is not None:
        query["max_drop"] = choice.max_drop
    place = path if path.endswith(PATH) else path + PATH
    return f"{SCHEMES[parts.scheme]}://{parts.netloc}{place}?{urlencode(query)}"


async def _run(command: StreamCommand, url: str, teller: Teller) -> int:
    try:
        # No judgement of pongs: behind a backlog a healthy server may be slow to answer.
        socket = await connect(
            url,
            additional_headers={"Authorization": f"Bearer {command.key}"} if command.key else None,
            open_timeout=OPEN_TIMEOUT_S,
            ping_timeout=None,
            compression=None,
        )
    except InvalidHandshake as error:
        teller.complain(_refusal(command.url, error))
        return 1
    except OSError:  # nobody listens, no such host, no answer in time
        teller.complain(f"expected a server at {command.url}, got no answer")
        return 1
    reason = ""
    async with socket:
        try:
            await _stream(socket, command, teller)
        except* CallerError as errors:
            reason = f"{command.file}: {errors.exceptions[0]}"
        except* OSError as errors:
            reason = _os_reason(errors.exceptions[0])
    if not reason and not teller.is_done:
        reason = teller.failure or "the connection was lost before the last words came"
    if reason:
        teller.complain(reason)
    return 1 if reason else 0


async def _stream(socket: ClientConnection, command: StreamCommand, teller: Teller) -> None:
    ready = asyncio.Event()
    with _stop_on_interrupt() as stopping:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(_send(socket, command, _packets(command, stopping), ready))
            with suppress(ConnectionClosed):  # whether `done` came, the teller knows
                async for text in socket:
                    message = json.loads(text)
                    if message["type"] == "ready":
                        ready.set()
                    teller.tell(message)
            sending.cancel()


@contextmanager
def _stop_on_interrupt() -> Generator[asyncio.Event]:
    """Have the first interrupt set an event; the second ends the program as it always does."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stopping.set()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield stopping
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _send(
    socket: ClientConnection,
    command: StreamCommand,
    packets: AsyncGenerator[bytes],
    ready: asyncio.Event,
) -> None:
    await ready.wait()  # a file that plays before anybody listens would be behind from the start
    try:
        if command.hotwords:  # not in the address, which has no room for all that are allowed
            await socket.send(json.dumps({"type": "configure", "hotwords": command.hotwords}))
        async for packet in packets:
            await socket.send(packet)
        await socket.send(json.dumps({"type": "stop"}))
    except ConnectionClosed:
        return


async def _packets(command: StreamCommand, stopping: asyncio.Event) -> AsyncGenerator[bytes]:
    if command.file is None:
        async for packet in microphone(stopping):
            yield packet
        return
    blocks = read_sound(command.file, max_s=math.inf)
    async for packet in paced(pcm_packets(blocks), time.monotonic):
        if stopping.is_set():
            return
        yield packet


def _failure(message: Message) -> str:
    retry_ms = message.get("retry_after_ms")
    again = f"; try again in {math.ceil(retry_ms / 1000)} s" if retry_ms else ""
    return f"{message['message']} ({message['code']}){again}"


def _refusal(url: str, error: InvalidHandshake) -> str:
    if not isinstance(error, InvalidStatus):
        return f"expected a server at {url}, got something else"
    status = error.response.status_code
    try:
        problem = json.loads(error.response.body or b"")["error"]
        return f"{problem['message']} ({problem['code']})"
    except (ValueError, KeyError, TypeError):
        return f"expected a stream from {url}, got HTTP status {status}"


def _os_reason(error: BaseException) -> str:
    # An error of the file names it; those of the microphone are in words of ours.
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
