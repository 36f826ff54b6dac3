"""`asr archive`: thousands of files to rows of Parquet or JSON, by actors on Ray."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from service.engine.base import DepthChoice
from service.fleet.archive_cluster import Actors, cluster, expect_ray
from service.fleet.archive_files import list_files
from service.fleet.archive_job import ArchiveJob, ArchiveRun, ArchiveSummary
from service.fleet.archive_progress import ArchiveProgress
from service.fleet.archive_store import RowFormat
from service.fleet.archive_worker import Dial
from service.scheduling.clock import Clock
from service.settings import Settings

LINE_EVERY_S = 60.0
"""Between two lines of progress where stderr is no terminal."""
REDRAW_EVERY_S = 0.2
INTERRUPTED = 130
_HOUR_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveCommand:
    """What the command line asked for."""

    paths: tuple[str, ...]
    out: Path
    form: RowFormat
    choice: DepthChoice
    hotwords: tuple[str, ...]
    flops_budget: int | None
    actors: int | None
    cores: int
    address: str | None


def run(command: ArchiveCommand, settings: Settings, err: TextIO) -> int:
    """Transcribe what has no row yet.

    Args:
        command: what to do.
        settings: of the engines.
        err: takes progress and the summary.

    Returns:
        0; 1 when a file became an error row or has none; 130 when interrupted.

    Raises:
        ServiceError: nothing can be done.
    """
    expect_ray()
    settings = settings.model_copy(update={"engine_threads": command.cores})
    files = list_files(command.paths)
    dial = Dial(command.choice.policy, command.choice.max_drop, command.hotwords)
    err.write(f"{len(files)} files\n")
    try:
        with cluster(command.address, command.actors, command.cores) as count:
            job = ArchiveJob(
                files=files,
                folder=command.out,
                form=command.form,
                choice=command.choice,
                hotwords=command.hotwords,
                model=settings.model,
                flops_budget=command.flops_budget,
                actors=count,
            )
            actors = Actors(settings, dial, count, command.cores)
            show = progress_line(err, time.monotonic)
            summary = ArchiveRun(job, actors.run, time.monotonic, show).go()
    except KeyboardInterrupt:
        err.write("\nasr: interrupted; the same command goes on where this one ended\n")
        return INTERRUPTED
    wiped = "\r\x1b[K" if err.isatty() else ""
    err.write(f"{wiped}{summary_line(summary, command.out)}\n")
    return 1 if summary.num_failed or summary.num_unreached else 0


def progress_line(err: TextIO, clock: Clock) -> Callable[[ArchiveProgress], None]:
    """Give what shows progress: one line that is redrawn, or now and then a new one."""
    terminal = err.isatty()
    every_s = REDRAW_EVERY_S if terminal else LINE_EVERY_S
    shown_s = clock()

    def show(progress: ArchiveProgress) -> None:
        nonlocal shown_s
        if clock() - shown_s < every_s:
            return
        shown_s = clock()
        err.write(f"\r\x1b[K{progress.line()}" if terminal else f"{progress.line()}\n")
        err.flush()

    return show


def summary_line(summary: ArchiveSummary, out: Path) -> str:
    """Say what a run did."""
    speed = summary.audio_s / summary.took_s if summary.took_s else 0.0
    parts = [
        f"{summary.num_rows} rows written to {out}",
        f"{summary.audio_s / _HOUR_S:.2f} h of audio",
        f"{speed:.0f}x real time",
        f"{summary.spent_flops:.3g} operations",
    ]
    if summary.num_known:
        parts.append(f"{summary.num_known} were there")
    if summary.num_deeper:
        parts.append(f"{summary.num_deeper} transcribed again deeper")
    if summary.num_failed:
        parts.append(f"{summary.num_failed} failed (see error_code)")
    if summary.num_unreached:
        parts.append(f"{summary.num_unreached} not reached: the budget is spent")
    return ", ".join(parts)
