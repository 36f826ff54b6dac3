"""An archive job: files to rows by actors of Ray Data, each with an engine of its own.

    files -> works, large ones in parts -> actors (map_batches) -> parts -> joined -> rows, written

A file that an engine cannot take is an error row. One whose actor ends with it is tried again alone,
so that its neighbours get their rows, and is an error row after that.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from service.engine.base import AUTO, DepthChoice
from service.errors import ArchiveInvalid, ModelUnusable, WorkerDied
from service.fleet.archive_files import ArchiveFile
from service.fleet.archive_plan import plan_deeper
from service.fleet.archive_progress import ArchiveProgress
from service.fleet.archive_rows import ArchiveRow, Part, PartJoiner, join_parts
from service.fleet.archive_store import (
    FIRST_PASS,
    RowFormat,
    RowWriter,
    open_archive,
    read_rows,
    remove_first_pass,
)
from service.fleet.archive_worker import SHALLOWEST, Work
from service.scheduling.clock import Clock

PART_BYTES = 8 * 2**20
"""A file is split for so many bytes each: four minutes of wav, three quarters of an hour of Opus. Each
part decodes all of the file, so many small ones would be waste."""
BLOCKS_PER_ACTOR = 8
MOST_FILES_OF_BLOCK = 16


class Run(Protocol):
    """Runs blocks of works."""

    def __call__(self, blocks: Sequence[Sequence[Work]], *, alone: bool) -> Iterable[Part]:
        """Run each block on one actor, and give the parts as they come.

        Those of a block whose actor ended are missing.

        Args:
            blocks: of works.
            alone: whether no block may end with the actor of another, waiting there.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveJob:
    """What to do.

    Args:
        files: all of them, those of earlier runs too.
        folder: takes the rows.
        form: of the rows.
        choice: the depth; with a budget, its drop is that of the deepest plan wanted.
        hotwords: words that may come.
        model: as the settings name it.
        flops_budget: for all files and passes, those of earlier runs too; None sets none.
        actors: how many work.
    """

    files: tuple[ArchiveFile, ...]
    folder: Path
    form: RowFormat
    choice: DepthChoice
    hotwords: tuple[str, ...]
    model: str
    flops_budget: int | None
    actors: int

    def description(self) -> dict[str, object]:
        """Say how rows are made; what differs here must not be mixed."""
        return {
            "format": self.form,
            "model": self.model,
            "drop": self.choice.drop,
            "max_drop": self.choice.max_drop,
            "policy": self.choice.policy,
            "hotwords": list(self.hotwords),
            "budgeted": self.flops_budget is not None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSummary:
    """What a run did.

    Args:
        num_rows: written by this run.
        num_failed: of them, error rows.
        num_known: files that had their rows before.
        num_deeper: files that were transcribed a second time.
        num_unreached: files that the budget did not reach; they have no row.
        spent_flops: by all rows of the archive.
        audio_s: of the rows written.
        took_s: from the first work to the last row.
    """

    num_rows: int
    num_failed: int
    num_known: int
    num_deeper: int
    num_unreached: int
    spent_flops: int
    audio_s: float
    took_s: float


@dataclass(slots=True)
class ArchiveRun:
    """One run of a job.

    Args:
        job: what to do.
        run: runs works on actors.
        clock: monotonic seconds.
        show: told after each file.
    """

    job: ArchiveJob
    run: Run
    clock: Clock
    show: Callable[[ArchiveProgress], None]
    _num_rows: int = 0
    _num_failed: int = 0
    _audio_s: float = 0.0
    _spent_flops: int = 0
    _num_deeper: int = 0
    _started_s: float = field(default=0.0)

    def go(self) -> ArchiveSummary:
        """Do what is missing.

        Raises:
            ArchiveInvalid: the folder cannot be used, or the dial is at fault.
            ModelUnusable: the model cannot be loaded.
        """
        self._started_s = self.clock()
        with open_archive(self.job.folder, self.job.description()):
            rows = RowWriter(self.job.folder, self.job.form, self.clock)
            num_known = sum(file.path in rows.known for file in self.job.files)
            missing = [file for file in self.job.files if file.path not in rows.known]
            self._spent_flops = rows.spent_flops
            try:
                if self.job.flops_budget is None:
                    self._once(missing, rows)
                else:
                    self._within(self.job.flops_budget, missing, rows)
            finally:
                rows.flush()
            if self.job.flops_budget is not None:
                remove_first_pass(self.job.folder, self.job.form)
        return ArchiveSummary(
            num_rows=self._num_rows,
            num_failed=self._num_failed,
            num_known=num_known,
            num_deeper=self._num_deeper,
            num_unreached=len(missing) - self._num_rows,
            spent_flops=self._spent_flops,
            audio_s=self._audio_s,
            took_s=self.clock() - self._started_s,
        )

    def _once(self, files: Sequence[ArchiveFile], rows: RowWriter) -> None:
        drop = self.job.choice.drop
        works = dict.fromkeys(files, None if drop == AUTO else drop)
        for row in self._passed(works):
            self._spent_flops += row.spent_flops
            self._write(row, rows)

    def _within(self, budget_flops: int, missing: Sequence[ArchiveFile], rows: RowWriter) -> None:
        first = RowWriter(self.job.folder / FIRST_PASS, self.job.form, self.clock)
        known = {
            row.path: row
            for row in read_rows(first.folder, self.job.form)
            if row.path not in rows.known
        }
        self._spent_flops += sum(row.spent_flops for row in known.values())
        fresh = {file: SHALLOWEST for file in missing if file.path not in known}
        try:
            if fresh and self._spent_flops < budget_flops:
                for row in self._passed(fresh):
                    self._spent_flops += row.spent_flops
                    known[row.path] = row
                    first.add(row)
                    if self._spent_flops >= budget_flops:
                        break
        finally:
            first.flush()
        self._deepen(budget_flops - self._spent_flops, missing, known, rows)

    def _deepen(
        self,
        left_flops: int,
        missing: Sequence[ArchiveFile],
        known: Mapping[str, ArchiveRow],
        rows: RowWriter,
    ) -> None:
        wanted = 0.0 if self.job.choice.drop == AUTO else self.job.choice.drop
        drops = plan_deeper((row.first_pass() for row in known.values()), left_flops, wanted)
        by_path = {file.path: file for file in missing}
        works = {by_path[path]: drop for path, drop in drops.items() if path in by_path}
        self._num_deeper = len(works)
        for row in self._passed(works):
            self._spent_flops += row.spent_flops
            self._write(known[row.path].deepened(row), rows)
        for file in missing:
            if file.path in known and file.path not in rows.known:
                self._write(known[file.path], rows)

    def _write(self, row: ArchiveRow, rows: RowWriter) -> None:
        rows.add(row)
        self._num_rows += 1
        self._num_failed += bool(row.error_code)
        self._audio_s += row.audio_s

    def _passed(self, drops: Mapping[ArchiveFile, float | None]) -> Iterator[ArchiveRow]:
        """Give a row for each file, as they come; twice tried where an actor ended."""
        if not drops:
            return
        progress = ArchiveProgress(self.clock, len(drops), sum(file.size_bytes for file in drops))
        sizes = {file.path: file.size_bytes for file in drops}
        joiner, left = PartJoiner(), _works(drops, self.job.actors)
        for alone in (False, True):
            size = 1 if alone else _files_of_block(len(left), self.job.actors)
            for part in self.run(_blocks(list(left.values()), size), alone=alone):
                if part.fatal:
                    raise _fatal(part)
                left.pop((part.path, part.part), None)
                row = joiner.add(part)
                if row is not None:
                    progress.done(
                        sizes[row.path], row.audio_s, row.flops, failed=bool(row.error_code)
                    )
                    self.show(progress)
                    yield row
            if not left:
                return
        died = WorkerDied("expected a transcript, got the end of the process that made it, twice")
        for path in dict.fromkeys(path for path, _ in left):
            yield join_parts([Part.of_error(path, Work(ArchiveFile(path, "", "", 0)).share, died)])


def _works(drops: Mapping[ArchiveFile, float | None], actors: int) -> dict[tuple[str, int], Work]:
    """Give the works, largest first, so that none of the last ones keeps the others waiting."""
    works = [
        Work(file, part, parts, drop)
        for file, drop in drops.items()
        for parts in [max(1, min(actors, math.ceil(file.size_bytes / PART_BYTES)))]
        for part in range(parts)
    ]
    works.sort(key=lambda work: (-work.file.size_bytes / work.of, work.file.path, work.part))
    return {(work.file.path, work.part): work for work in works}


def _files_of_block(num_works: int, actors: int) -> int:
    return max(1, min(MOST_FILES_OF_BLOCK, num_works // (BLOCKS_PER_ACTOR * actors)))


def _blocks(works: Sequence[Work], size: int) -> list[Sequence[Work]]:
    return [works[start : start + size] for start in range(0, len(works), size)]


def _fatal(part: Part) -> ModelUnusable | ArchiveInvalid:
    wrong = ModelUnusable if part.error_code == ModelUnusable.code else ArchiveInvalid
    return wrong(part.error_message)
