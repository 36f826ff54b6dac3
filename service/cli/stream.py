"""`asr stream`: a file or the microphone to a server, captions to stdout as they come."""

import asyncio
import json
import math
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from urllib.parse import urlencode, urlsplit

from service.cli.resume_state import Message, Missing
from service.cli.resuming import Patience, ResumingStream
from service.cli.sound import microphone, paced, pcm_packets
from service.engine.base import SAMPLE_RATE_HZ, DepthChoice
from service.engine.sound import read_sound
from service.errors import CallerError, ParameterInvalid

PATH = "/v1/stream"
SCHEMES = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}
DEFAULT_COLUMNS = 80


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

    def tell(self, message: Message) -> None:
        """Take one message."""
        kind = message.get("type")
        if self._json_lines:
            self._out.write(json.dumps(message, ensure_ascii=False) + "\n")
        elif kind == "partial" and self._shows_partials:
            columns = shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns
            # The end of a long line is what has just been said.
            self._out.write(f"\r\x1b[K{message['text'][-(columns - 1) :]}")
        elif kind == "final" and message["text"]:
            self._out.write(f"{self._wipe()}{message['text']}\n")
        elif kind == "warning" and message["code"] == "audio_dropped":
            self.complain(f"{message['end'] - message['start']:.1f} s of sound were dropped")
        elif kind == "error" and not message.get(
            "fatal", True
        ):  # what ends a stream is its run's result
            self.complain(f"{message['message']} ({message['code']})")
        self._out.flush()

    def miss(self, missing: Missing) -> None:
        """Say that sound is lost."""
        lost_s = missing.end_s - missing.start_s
        self.complain(f"{lost_s:.1f} s of sound are lost, from {missing.start_s:.1f} s on")

    def wait(self, reason: str) -> None:
        """Say that captions come late."""
        self.complain(f"{reason}; trying again")

    def complain(self, reason: str) -> None:
        """Say what went wrong."""
        self._err.write(f"{self._wipe()}asr: {reason}\n")

    def _wipe(self) -> str:
        return "\r\x1b[K" if self._shows_partials else ""


def run(command: StreamCommand, out: TextIO, err: TextIO, patience: Patience | None = None) -> int:
    """Stream until the sound ends or an interrupt comes; a second interrupt does not wait.

    Args:
        command: what was asked for.
        out: takes captions.
        err: takes what went wrong.
        patience: with servers that stop or are gone.

    Returns:
        0, or 1 when the server, the file or the microphone could not be used.

    Raises:
        ParameterInvalid: the address is none of a server.
    """
    url = stream_url(command.url, command.choice)
    teller = Teller(out, err, json_lines=command.json_lines)
    return asyncio.run(_run(command, url, teller, patience))


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


async def _run(command: StreamCommand, url: str, teller: Teller, patience: Patience | None) -> int:
    stream = ResumingStream(
        url,
        command.url,
        teller,
        headers={"Authorization": f"Bearer {command.key}"} if command.key else None,
        greeting=_greeting(command),
        patience=patience,
    )
    reason = ""
    with _stop_on_interrupt() as stopping:
        try:
            await stream.run(_packets(command, stopping))
        except* CallerError as errors:
            reason = f"{command.file}: {errors.exceptions[0]}"
        except* OSError as errors:
            reason = _os_reason(errors.exceptions[0])
    if reason:
        teller.complain(reason)
    return 1 if reason else 0


def _greeting(command: StreamCommand) -> Message | None:
    # Not in the address, which has no room for all hotwords that are allowed.
    if not command.hotwords:
        return None
    return {"type": "configure", "hotwords": command.hotwords}


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


def _os_reason(error: BaseException) -> str:
    # An error of the file names it; those of the microphone are in words of ours.
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
