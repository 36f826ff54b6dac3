"""An archive job that prints a line as each row comes; `benchmarks.archive` measures by them.

python -m benchmarks.archive_rows LIST.tsv DIR DROP
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.app import make_engine
from service.engine.base import DepthChoice, Engine, PlanInUse, StepResult, Window
from service.fleet.archive_cluster import Actors, cluster
from service.fleet.archive_files import list_files
from service.fleet.archive_job import ArchiveJob, ArchiveRun
from service.fleet.archive_progress import ArchiveProgress
from service.fleet.archive_worker import Dial
from service.settings import Settings, read_settings

ACTORS = 2


def main() -> None:
    """Run the job that the arguments name, on two actors of a core each."""
    manifest, out, drop = sys.argv[1:]
    files, settings, told_s = list_files([manifest]), read_settings(), 0.0

    def tell(progress: ArchiveProgress) -> None:
        nonlocal told_s
        print(json.dumps({"audio_seconds": progress.audio_s - told_s}), flush=True)
        told_s = progress.audio_s

    with cluster(None, ACTORS, 1) as count:
        job = ArchiveJob(
            files=files,
            folder=Path(out),
            form="parquet",
            choice=DepthChoice(float(drop)),
            hotwords=(),
            model=settings.model,
            flops_budget=None,
            actors=count,
        )
        ready = Path(f"{out}.ready")
        ready.mkdir()
        actors = Actors(settings, Dial("ladder"), count, 1, TimedEngines(ready))
        ArchiveRun(job, actors.run, time.monotonic, tell).go()
        at_s, audio_s = min(json.loads(path.read_text()) for path in ready.iterdir())
    print(json.dumps({"audio_seconds": 0.0, "at_s": at_s}), flush=True)
    # Its row came later, with others of its block; what was done by then does not count.
    print(json.dumps({"audio_seconds": -audio_s}), flush=True)


@dataclass(frozen=True, slots=True)
class TimedEngines:
    """Makes engines that write down when their first step ended, and over how much audio.

    Args:
        folder: takes a file for each.
    """

    folder: Path

    def __call__(self, settings: Settings) -> Engine:
        """Make one."""
        engine = make_engine(settings)
        transcribe = engine.transcribe

        def transcribe_and_tell(windows: Sequence[Window], plan: PlanInUse) -> StepResult:
            result = transcribe(windows, plan)
            engine.transcribe = transcribe
            audio_s = sum(window.end_s - window.start_s for window in windows)
            told = json.dumps([time.monotonic(), audio_s])
            (self.folder / str(os.getpid())).write_text(told)
            return result

        engine.transcribe = transcribe_and_tell
        return engine


if __name__ == "__main__":
    main()
