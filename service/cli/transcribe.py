"""`asr transcribe`: files to words on stdout, by the same scheduler as the server's."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from prometheus_client import CollectorRegistry

from service.api.formats import Format, render
from service.engine.base import DepthChoice, Engine
from service.errors import CallerError, ServiceError
from service.metrics import create_metrics
from service.scheduling.files import Transcriber, limits_of_own_files
from service.scheduling.hotwords import expect_support

CLOSE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class TranscribeCommand:
    """What the command line asked for."""

    files: tuple[Path, ...]
    choice: DepthChoice
    form: Format
    progress: bool
    batch_windows: int
    hotwords: tuple[str, ...] = ()


def run(command: TranscribeCommand, engine: Engine, out: TextIO, err: TextIO) -> int:
    """Transcribe the files in order; one that cannot be is reported, and the others go on.

    Args:
        command: what to do.
        engine: not loaded yet.
        out: takes the words.
        err: takes progress and what went wrong.

    Returns:
        0, or 1 when a file or the model could not be used.
    """
    return asyncio.run(_run(command, engine, out, err))


async def _run(command: TranscribeCommand, engine: Engine, out: TextIO, err: TextIO) -> int:
    limits = limits_of_own_files(command.batch_windows)
    metrics = create_metrics(CollectorRegistry())
    transcriber = Transcriber(engine, metrics, time.monotonic, limits)
    num_failed = 0
    try:
        expect_support(command.hotwords, await transcriber.load())
        for path in command.files:
            try:
                out.write(await _transcribed(transcriber, path, command, err))
                out.flush()
            except (CallerError, OSError) as error:
                num_failed += 1
                err.write(f"asr: {path}: {_reason(error)}\n")
    except ServiceError as error:
        err.write(f"asr: {error}\n")
        return 1
    finally:
        await transcriber.close(timeout_s=CLOSE_TIMEOUT_S)
    return 1 if num_failed else 0


async def _transcribed(
    transcriber: Transcriber, path: Path, command: TranscribeCommand, err: TextIO
) -> str:
    with path.open("rb") as source:
        show = _progress_line(path, source, err) if command.progress else _no_progress
        try:
            transcript = await transcriber.transcribe(
                source,
                command.choice,
                endpoint="cli",
                on_progress=show,
                hotwords=command.hotwords,
            )
        finally:
            if command.progress:
                err.write("\r\x1b[K")
    body = render(transcript, command.form).body
    return body if body.endswith("\n") or not body else f"{body}\n"


def _no_progress(_audio_s: float) -> None:
    return None


def _progress_line(path: Path, source: BinaryIO, err: TextIO) -> Callable[[float], None]:
    started_s = time.monotonic()
    size_bytes = max(1, path.stat().st_size)

    def show(audio_s: float) -> None:
        speed = audio_s / max(1e-9, time.monotonic() - started_s)
        percent = 100 * source.tell() // size_bytes  # read so far; decoding is one batch ahead
        minutes, seconds = divmod(round(audio_s), 60)
        err.write(
            f"\r\x1b[K{path.name}: {minutes}:{seconds:02d} done, "
            f"{percent} % of the file read, {speed:.0f}x real time"
        )
        err.flush()

    return show


def _reason(error: CallerError | OSError) -> str:
    if isinstance(error, CallerError):
        return f"{error} ({error.code})"
    return error.strerror or "cannot be read"
