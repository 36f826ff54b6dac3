"""What one actor of an archive job does: own an engine, and turn files into parts of rows.

It knows no Ray. Files go the way that uploads go, so their words are those of `POST /transcribe` at
the same drop.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from service.app import make_engine
from service.engine.base import AUTO, DepthChoice, Engine, ModelInfo
from service.errors import ServiceError
from service.fleet.archive_files import ArchiveFile, FileSystems
from service.fleet.archive_rows import Part
from service.logs import configure_logs
from service.metrics import create_metrics
from service.scheduling.files import Share, Transcriber, limits_of_own_files
from service.scheduling.hotwords import expect_support
from service.settings import Settings

STEPS_AT_ONCE = 2
"""As many files as fill so many steps are in work: those of one are decoded while the engine has the other's."""
CLOSE_TIMEOUT_S = 2.0
SHALLOWEST = -1.0
"""In place of a drop: that of the least plan on offer."""

MakeEngine = Callable[[Settings], Engine]


@dataclass(frozen=True, slots=True)
class Work:
    """A file, or a share of one, and the depth it gets.

    Args:
        file: which.
        part: of the file's steps, every `of`-th from this one.
        of: parts of the file.
        drop: None leaves it to us, which is full depth; `SHALLOWEST` is the least there is.
    """

    file: ArchiveFile
    part: int = 0
    of: int = 1
    drop: float | None = None

    @property
    def share(self) -> Share:
        """Which of the file's steps."""
        return Share(self.part, self.of)

    def line(self) -> str:
        """Write it for the way to an actor."""
        return json.dumps(asdict(self))

    @classmethod
    def of_line(cls, line: str) -> "Work":
        """Read what `line` wrote."""
        content: dict[str, Any] = json.loads(line)
        values: dict[str, Any] = {**content, "file": ArchiveFile(**content["file"])}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Dial:
    """What holds for all files of a job."""

    policy: str
    max_drop: float | None = None
    hotwords: tuple[str, ...] = ()


class ArchiveWorker:
    """An engine that is loaded, for a file after the other.

    Args:
        settings: of the engine and its steps.
        dial: for all files.
        engine: how the engine is made.
    """

    def __init__(self, settings: Settings, dial: Dial, engine: MakeEngine = make_engine) -> None:
        configure_logs("error")
        self._dial = dial
        self._systems = FileSystems()
        self._runner = asyncio.Runner()
        # What is wrong with the model is wrong with every file; whoever reads the parts stops then.
        self._unusable: ServiceError | None = None
        self._files_at_once = STEPS_AT_ONCE * settings.batch_windows
        try:
            self._transcriber = self._runner.run(
                _loaded(settings, dial, engine, self._files_at_once)
            )
        except ServiceError as error:
            self._unusable = error

    def transcribed(self, works: Sequence[Work]) -> list[Part]:
        """Transcribe files; a part for each, whatever goes wrong with it."""
        if self._unusable is None:
            return self._runner.run(self._all(works))
        error = self._unusable
        return [Part.of_error(work.file.path, work.share, error, fatal=True) for work in works]

    def close(self) -> None:
        """Let its threads end."""
        if self._unusable is None:
            self._runner.run(self._transcriber.close(timeout_s=CLOSE_TIMEOUT_S))
        self._runner.close()

    async def _all(self, works: Sequence[Work]) -> list[Part]:
        places = asyncio.Semaphore(self._files_at_once)
        return await asyncio.gather(*(self._one(work, places) for work in works))

    async def _one(self, work: Work, places: asyncio.Semaphore) -> Part:
        async with places:
            try:
                choice = self._choice(work.drop)
                source = await asyncio.to_thread(self._systems.open, work.file)
                with source:
                    transcript = await self._transcriber.transcribe(
                        source,
                        choice,
                        endpoint="archive",
                        hotwords=self._dial.hotwords,
                        share=work.share,
                    )
            except ServiceError as error:
                return Part.of_error(work.file.path, work.share, error)
        return Part.of_transcript(work.file.path, work.share, transcript)

    def _choice(self, drop: float | None) -> DepthChoice:
        if drop == SHALLOWEST:
            return DepthChoice(_least(self._transcriber.info), None, self._dial.policy)
        wanted = AUTO if drop is None else drop
        return DepthChoice(wanted, self._dial.max_drop, self._dial.policy)


async def _loaded(
    settings: Settings, dial: Dial, engine: MakeEngine, files_at_once: int
) -> Transcriber:
    limits = limits_of_own_files(settings.batch_windows, max_requests=files_at_once)
    metrics = create_metrics(CollectorRegistry())  # the job counts by rows; nobody reads these
    transcriber = Transcriber(engine(settings), metrics, time.monotonic, limits)
    expect_support(dial.hotwords, await transcriber.load())
    transcriber.plan_for(DepthChoice(AUTO, dial.max_drop, dial.policy))
    return transcriber


def _least(info: ModelInfo) -> float:
    return info.offered[-1].drop
