"""What tests of archive jobs stand on: wav files, rows made up, actors that are no processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from service.engine.base import DepthChoice
from service.fleet.archive_files import ArchiveFile, list_files
from service.fleet.archive_job import ArchiveJob, ArchiveRun, ArchiveSummary
from service.fleet.archive_progress import ArchiveProgress
from service.fleet.archive_rows import ArchiveRow, Part, RowWord
from service.fleet.archive_store import RowFormat, read_rows
from service.fleet.archive_worker import ArchiveWorker, Dial, Work
from service.settings import Settings
from tests.service_kit import FakeClock, wav_bytes

SETTINGS = Settings(engine="fake", batch_windows=1)


def archive_of(folder: Path, *seconds: float) -> tuple[ArchiveFile, ...]:
    """Write wav files of so many seconds, named 00.wav and so on."""
    folder.mkdir(exist_ok=True)
    for number, duration_s in enumerate(seconds):
        (folder / f"{number:02d}.wav").write_bytes(wav_bytes(duration_s))
    return list_files([str(folder)])


def row_of(path: str, text: str = "", **changes: object) -> ArchiveRow:
    """A row whose words are half a second long each."""
    words = tuple(
        RowWord(word, number / 2, number / 2 + 0.5, 0.9) for number, word in enumerate(text.split())
    )
    made = ArchiveRow(path=path, text=text, words=words, confidence=0.9 if words else None)
    return replace(made, spent_flops=10, audio_s=len(words) / 2, **changes)


class Bench:
    """Runs the blocks of a job in this process, and remembers what it was given.

    Args:
        dial: of the worker.
        lose: says of a block whether the actor ends over it.
        settings: of the engine.
    """

    def __init__(
        self,
        dial: Dial | None = None,
        lose: Callable[[Sequence[Work]], bool] = lambda _block: False,
        settings: Settings = SETTINGS,
    ) -> None:
        self.worker = ArchiveWorker(settings, dial or Dial("ladder"))
        self.lose = lose
        self.blocks: list[list[Work]] = []

    @property
    def paths(self) -> list[str]:
        """Paths of all works, in the order in which they came."""
        return [Path(work.file.path).name for block in self.blocks for work in block]

    def run(self, blocks: Sequence[Sequence[Work]], *, alone: bool) -> Iterator[Part]:
        lost = False
        for block in blocks:
            self.blocks.append(list(block))
            waited = lost and not alone  # at the actor that ended
            lost = self.lose(block)
            if not (lost or waited):
                yield from self.worker.transcribed(block)


def job_of(files: Sequence[ArchiveFile], folder: Path, **changes: object) -> ArchiveJob:
    """A job of two actors on the fake engine."""
    job = ArchiveJob(
        files=tuple(files),
        folder=folder,
        form="jsonl",
        choice=DepthChoice(0.0),
        hotwords=(),
        model="fake",
        flops_budget=None,
        actors=2,
    )
    return replace(job, **changes)


def go(job: ArchiveJob, bench: Bench, shown: list[str] | None = None) -> ArchiveSummary:
    """Run a job on a bench, which is of no use after it."""

    def show(progress: ArchiveProgress) -> None:
        if shown is not None:
            shown.append(progress.line())

    try:
        return ArchiveRun(job, bench.run, FakeClock(), show).go()
    finally:
        bench.worker.close()


def rows_in(folder: Path, form: RowFormat = "jsonl") -> dict[str, ArchiveRow]:
    """Give the rows of an archive by file name, each file once."""
    rows = list(read_rows(folder, form))
    assert len({row.path for row in rows}) == len(rows), "expected one row each, got a file twice"
    return {Path(row.path).name: row for row in rows}
