"""The archive job's actors on Ray Data; the one module of it that knows Ray.

Nothing here listens beyond loopback unless a cluster is joined, no dashboard runs, and no usage
statistics leave the machine.
"""

import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from service.app import make_engine
from service.errors import ArchiveInvalid, ExtraMissing
from service.fleet.archive_rows import Part
from service.fleet.archive_worker import ArchiveWorker, Dial, MakeEngine, Work
from service.settings import Settings, set_up_ray

STDERR = 2
OBJECT_STORE_BYTES = 100 * 2**20
"""What lies in it are names of files and words."""


def expect_ray() -> None:
    """See that Ray is installed, with what its data sets need.

    Raises:
        ExtraMissing: it is not.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise ExtraMissing(
            "expected Ray for an archive job, found none; pip install 'elastic-asr[ray]'"
        )


@dataclass(frozen=True, slots=True)
class Actors:
    """The actors of a job, on a cluster that is there.

    Args:
        settings: of their engines.
        dial: for all files.
        count: how many.
        cores: of each, and threads of its engine.
        engine: how engines are made.
    """

    settings: Settings
    dial: Dial
    count: int
    cores: int
    engine: MakeEngine = make_engine

    def run(self, blocks: Sequence[Sequence[Work]], *, alone: bool) -> Iterator[Part]:
        """Run blocks of works and give the parts as they come.

        Args:
            blocks: each for one actor.
            alone: whether none waits at an actor that is at work, and would end with it.
        """
        import ray

        works = [{"work": [work.line() for work in block]} for block in blocks]
        files = ray.data.from_items(works, override_num_blocks=len(works))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that `ray_remote_args` will get other names
            parts = files.map_batches(
                _Actor,
                batch_size=None,
                batch_format="numpy",
                # To ask for the next only when there is nothing to do costs a tenth of the time.
                compute=ray.data.ActorPoolStrategy(
                    size=min(self.count, len(works)),
                    max_tasks_in_flight_per_actor=1 if alone else 2,
                ),
                num_cpus=self.cores,
                fn_constructor_args=(self.settings, self.dial, self.engine),
                max_task_retries=0,  # a file that ends its actor would end the next one, and so on
            )
        for batch in parts.iter_batches(batch_size=None):
            for line in batch["part"]:
                yield Part.of_content(json.loads(line))


class _Actor:
    """An `ArchiveWorker` as Ray Data calls it: works and parts are lines of JSON."""

    def __init__(self, settings: Settings, dial: Dial, engine: MakeEngine) -> None:
        self._worker = ArchiveWorker(settings, dial, engine)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        works = [Work.of_line(line) for lines in batch["work"] for line in lines]
        return {"part": [json.dumps(asdict(part)) for part in self._worker.transcribed(works)]}


@contextmanager
def cluster(address: str | None, actors: int | None, cores: int) -> Generator[int]:
    """Start Ray here, or join a cluster; gives how many actors there will be.

    Args:
        address: of a cluster; None starts Ray on this machine alone, for as long as it is used.
        actors: how many are wanted; None takes as many as there are cores for.
        cores: of each.

    Raises:
        ArchiveInvalid: there is no cluster at the address, or it has not the cores.
    """
    set_up_ray(loopback=address is None, quiet=True)
    # Imported once the environment is set: Ray reads it when it is imported.
    import ray
    from ray.data import DataContext

    # What goes wrong with a block is told in our words, by the rows of its files.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if address is None:
        count = actors or max(1, num_usable_cores() // cores)
        with _stderr_aside():
            ray.init(
                address="local",
                num_cpus=count * cores,  # Ray holds OMP_NUM_THREADS of an actor to its cores
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    else:
        try:
            with _stderr_aside():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ArchiveInvalid(f"expected a Ray cluster at {address!r}, got none") from error
        count = actors or math.floor(ray.cluster_resources().get("CPU", 0) / cores)
    try:
        if ray.cluster_resources().get("CPU", 0) < cores:
            raise ArchiveInvalid(f"expected {cores} cores for an actor, got none on the cluster")
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # what is missing then is tried again, file by file
        yield count
    finally:
        ray.shutdown()


def num_usable_cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _stderr_aside() -> Generator[None]:
    """Keep off the terminal what Ray's core says on its start: how loud it was told to be."""
    sys.stderr.flush()
    kept = os.dup(STDERR)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
