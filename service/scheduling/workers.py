"""Threads that compute so that the event loop need not: two fair lanes, a few workers.

    submit (event loop) --> TwoLanes --> worker thread --> call_soon_threadsafe --> future

The engine has one worker, since a model runs one step at a time; decoding has a few. A future that
is cancelled takes its job out of the queue; a job already running runs to its end, unheard.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.errors import Draining, EngineFailed, ServiceError
from service.scheduling.clock import Clock
from service.scheduling.fairness import RETRY_AFTER_S, TwoLanes

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a job gave back, and how long it waited for its turn."""

    value: T
    wait_s: float


@dataclass(eq=False, slots=True)
class _Job:
    call: Callable[[], Any]  # Any: jobs of all kinds share one queue; `submit` keeps the type
    future: asyncio.Future[Done[Any]]
    queued_at_s: float


class WorkerPool:
    """Worker threads behind a fair, bounded queue.

    Args:
        name: of the threads, for stack dumps.
        num_threads: jobs that run at once.
        max_waiting: jobs that may wait in a lane; `submit` raises Overloaded beyond.
        clock: measures the wait.
    """

    def __init__(self, name: str, *, num_threads: int, max_waiting: int, clock: Clock) -> None:
        self._clock = clock
        self._queue: TwoLanes[_Job] = TwoLanes(max_waiting, clock)
        self._changed = threading.Condition()
        self._stopping = False
        # Daemons: a decoder that hangs must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
            for index in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return len(self._queue)

    @property
    def closed(self) -> bool:
        """Whether new jobs are refused."""
        return self._stopping

    def submit(
        self, owner: Hashable, call: Callable[[], T], *, urgent: bool = False
    ) -> asyncio.Future[Done[T]]:
        """Queue a call, urgent ones before the others; the future is of the running loop.

        Raises:
            Overloaded: too many jobs wait.
            Draining: the pool is closed.
        """
        future: asyncio.Future[Done[T]] = asyncio.get_running_loop().create_future()
        job = _Job(call, future, self._clock())
        with self._changed:
            if self._stopping:
                raise Draining("the service is stopping", retry_after_s=RETRY_AFTER_S)
            self._queue.put(owner, job, urgent=urgent)
            self._changed.notify()
        future.add_done_callback(
            lambda done: self._forget(owner, job) if done.cancelled() else None
        )
        return future

    def close(self, *, timeout_s: float) -> None:
        """Refuse new jobs, let the waiting ones finish, and wait so long for the threads.

        Blocks: call it off the event loop, which has to deliver the last answers.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline_s = self._clock() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - self._clock()))

    def _forget(self, owner: Hashable, job: _Job) -> None:
        with self._changed:
            self._queue.discard(owner, job)

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            self._run(job)

    def _next_job(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or len(self._queue) > 0)
            return self._queue.pop() if len(self._queue) else None

    def _run(self, job: _Job) -> None:
        wait_s = self._clock() - job.queued_at_s
        try:
            done = Done(job.call(), wait_s)
        except ServiceError as error:
            _answer(job.future, error)
        # The loop must live on and every waiter hear of it, whatever was raised, panics of native
        # code (BaseException) included.
        except BaseException as error:
            logger.exception("a job failed")
            failure = EngineFailed("the engine failed at its work; the same request may succeed")
            failure.__cause__ = error
            _answer(job.future, failure)
        else:
            _answer(job.future, done)


def _answer(future: asyncio.Future[Done[Any]], answer: Done[Any] | ServiceError) -> None:
    def settle() -> None:
        if future.done():
            return  # cancelled meanwhile
        if isinstance(answer, ServiceError):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    loop = future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
