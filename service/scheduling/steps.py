"""Steps of files on the engine's thread: what waits there side by side is run as one.

    file A: |w1|      waits --+
    file B: |w1|      waits --+--> one step of the engine, each file its own windows back
    file C: |w1 w2|   waits --'

A decoder call reads all of its weights whatever it writes, so windows are cheaper together. That a
window says the same beside any others is for the engines to see to.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from service.engine.base import Engine, PlanInUse, StepResult, Window
from service.errors import ServiceError
from service.scheduling.clock import Clock
from service.scheduling.workers import WorkerPool


@dataclass(frozen=True, slots=True)
class StepDone:
    """What a file's step gave back.

    Args:
        result: of its own windows.
        wait_s: how long it waited for the engine.
        num_windows: of all files that the engine had in that step.
    """

    result: StepResult
    wait_s: float
    num_windows: int


@dataclass(eq=False, slots=True)
class _Step:
    windows: Sequence[Window]
    plan: PlanInUse
    queued_at_s: float
    done: StepDone | None = None
    failed_with_others: bool = False

    def goes_with(self, other: "_Step") -> bool:
        """Tell whether both may be run as one; a plan that the input picks is of one window alone."""
        return (
            not (self.plan.by_input or self.failed_with_others or other.failed_with_others)
            and self.plan == other.plan
            and self.windows[0].hotwords == other.windows[0].hotwords
        )


class FileSteps:
    """Runs the steps of many files on one engine.

    Args:
        pool: with the engine's thread, and no other.
        engine: loaded.
        most_windows: of one step of the engine, as things are; asked on its thread. A file's own
            windows are never divided.
        clock: of the pool.
    """

    def __init__(
        self,
        pool: WorkerPool,
        engine: Engine,
        *,
        most_windows: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._engine = engine
        self._most_windows = most_windows
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[_Step, None] = {}

    async def run(self, owner: Hashable, windows: Sequence[Window], plan: PlanInUse) -> StepDone:
        """Wait for a step's turn and its result; cancelling takes it out of the queue.

        Args:
            owner: whose turn in the pool's queue this uses.
            windows: one at least.
            plan: that they run at.

        Raises:
            Overloaded: too many jobs wait.
            EngineFailed: the step failed, by itself too.
        """
        step = _Step(windows, plan, self._clock())
        with self._lock:
            self._waiting[step] = None
        try:
            return await self._turn_of(owner, step)
        except ServiceError:
            if not step.failed_with_others:
                raise
            # Whose windows it was nobody knows: each of those files is run by itself now.
            return await self._turn_of(owner, step)
        finally:
            with self._lock:
                self._waiting.pop(step, None)

    async def _turn_of(self, owner: Hashable, step: _Step) -> StepDone:
        return (await self._pool.submit(owner, lambda: self._turn(step))).value

    def _turn(self, step: _Step) -> StepDone:
        if step.done is None:  # else it was run with one before it
            self._run(self._taken_with(step))
        assert step.done is not None, "it was run"
        return step.done

    def _taken_with(self, step: _Step) -> list[_Step]:
        """Take those out of the queue that are run with a step; the oldest first, as many as fit."""
        with self._lock:
            self._waiting.pop(step, None)
            steps, room = [step], self._most_windows() - len(step.windows)
            for other in list(self._waiting):
                if len(other.windows) <= room and step.goes_with(other):
                    del self._waiting[other]
                    steps.append(other)
                    room -= len(other.windows)
        return steps

    def _run(self, steps: Sequence[_Step]) -> None:
        began_s = self._clock()
        for step in steps:  # until the engine has answered
            step.failed_with_others = len(steps) > 1
        windows = [window for step in steps for window in step.windows]
        result = self._engine.transcribe(windows, steps[0].plan)
        for step in steps:
            step.failed_with_others = False
            own, result = result.split(len(step.windows)) if len(steps) > 1 else (result, result)
            step.done = StepDone(own, began_s - step.queued_at_s, len(windows))
