"""Time that passes only when everybody waits: an event loop and an engine thread on one clock.

    loop: nothing ready --> the clock jumps to the next timer
    worker: job ... spend(s) --> hands over to the loop --> timer after s --> ... job goes on

The worker is a real thread, since a round runs in the middle of its job for as long as the engine
takes, and the loop has to go on meanwhile. The two never run at once, so every run is the same.
"""

import asyncio
import selectors
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any, TypeVar

from service.errors import Draining, EngineFailed, ServiceError
from service.scheduling.clock import Clock
from service.scheduling.workers import Done

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and never waits; asyncio offers no other way in."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._now_s

    def _jump(self, seconds: float | None) -> None:
        assert seconds is not None, "expected something that is still to happen, got none"
        self._now_s += max(0.0, seconds)


class _JumpingSelector(selectors.BaseSelector):
    """Jumps instead of waiting."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        self._jump = jump
        self._selector = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401 as in selectors
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401 as in selectors
        return self._selector.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._jump(timeout)
        return []  # no file is ever waited for

    def close(self) -> None:
        self._selector.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._selector.get_map()


def run_virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


class VirtualWorker:
    """One engine thread that takes virtual time; has what the live scheduler uses of a `WorkerPool`.

    Args:
        clock: of the loop.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: deque[tuple[Callable[[], Any], asyncio.Future[Done[Any]], float]] = deque()
        self._to_worker, self._to_loop = threading.Lock(), threading.Lock()
        self._to_worker.acquire()
        self._to_loop.acquire()
        self._spending_s: float | None = None
        self._outcome: Done[Any] | ServiceError | None = None
        self._running = False
        self._closed = False
        self.busy_s = 0.0
        self._thread = threading.Thread(target=self._work, name="virtual-engine", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Jobs that are not begun."""
        return max(0, len(self._jobs) - self._running)

    @property
    def closed(self) -> bool:
        """Whether new jobs are refused."""
        return self._closed

    def submit(
        self, owner: Hashable, call: Callable[[], T], *, urgent: bool = False
    ) -> asyncio.Future[Done[T]]:
        """Queue a call, first in first out.

        Raises:
            Draining: the worker is closed.
        """
        del owner, urgent  # streams alone are simulated
        if self._closed:
            raise Draining("the replica is stopping", retry_after_s=1)
        future: asyncio.Future[Done[T]] = asyncio.get_running_loop().create_future()
        self._jobs.append((call, future, self._clock()))
        if not self._running:
            self._running = True
            self._go_on()
        return future

    def spend(self, seconds: float) -> None:
        """Let so much time pass; called by a job, on the worker's thread."""
        self._spending_s = seconds
        self._to_loop.release()
        self._to_worker.acquire()

    def close(self) -> None:
        """Refuse new jobs; the thread ends once the one under way has."""
        self._closed = True
        if not self._running:
            self._to_worker.release()
            self._thread.join()

    def _go_on(self) -> None:
        """Run the worker until it spends time or is done; on the loop's thread."""
        self._to_worker.release()
        self._to_loop.acquire()
        if self._spending_s is not None:
            seconds, self._spending_s = self._spending_s, None
            self.busy_s += seconds
            asyncio.get_running_loop().call_later(seconds, self._go_on)
            return
        _, future, _ = self._jobs.popleft()
        outcome, self._outcome = self._outcome, None
        if not future.done():
            if isinstance(outcome, ServiceError):
                future.set_exception(outcome)
            elif outcome is not None:
                future.set_result(outcome)
        if self._jobs:
            self._go_on()
            return
        self._running = False
        if self._closed:
            self._to_worker.release()

    def _work(self) -> None:
        while True:
            self._to_worker.acquire()
            if not self._jobs:
                return
            call, _, queued_at_s = self._jobs[0]
            wait_s = self._clock() - queued_at_s
            try:
                self._outcome = Done(call(), wait_s)
            except BaseException as error:  # noqa: BLE001 as in WorkerPool: the waiter hears of it
                self._outcome = EngineFailed("the simulated engine failed")
                self._outcome.__cause__ = error
            self._to_loop.release()
