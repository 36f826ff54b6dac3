"""One upload's windows, pulled a batch at a time on the decoding threads."""

import threading
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass

from service.engine.base import Window
from service.scheduling.clock import Clock
from service.scheduling.workers import WorkerPool


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows for one step, none at the end of the file, and the seconds it took to decode them."""

    windows: tuple[Window, ...]
    took_s: float


class WindowReader:
    """Decodes only as far as it is asked to, so that a file never lies decoded in memory.

    Args:
        pool: the decoding threads.
        owner: whose turn in the pool's queue this uses.
        open_windows: starts decoding; called on a decoding thread with the first pull.
        batch_windows: windows of the next batch; asked on a decoding thread.
        clock: measures decoding.
    """

    def __init__(
        self,
        pool: WorkerPool,
        owner: Hashable,
        open_windows: Callable[[], Generator[Window]],
        *,
        batch_windows: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._open_windows = open_windows
        self._batch_windows = batch_windows
        self._clock = clock
        self._windows: Generator[Window] | None = None
        self._decoding = threading.Lock()
        self._closed = False

    async def next_batch(self) -> WindowBatch:
        """Wait for the next batch; empty at the end of the file.

        Raises:
            AudioError: the upload turned out to be unusable here.
        """
        return (await self._pool.submit(self._owner, self._decode)).value

    def close(self) -> None:
        """Stop decoding; one that is under way stops after its window."""
        self._closed = True
        if self._decoding.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self._decoding.release()

    def _decode(self) -> WindowBatch:
        started_s = self._clock()
        batch: list[Window] = []
        wanted = self._batch_windows()
        with self._decoding:
            if self._windows is None and not self._closed:
                self._windows = self._open_windows()
            while self._windows is not None and len(batch) < wanted:
                window = next(self._windows, None)
                if window is None or self._closed:
                    self._let_go()
                else:
                    batch.append(window)
        return WindowBatch(tuple(batch), self._clock() - started_s)

    def _let_go(self) -> None:
        # Closing the generator lets the decoder free its buffers now, not at the next collection.
        if self._windows is not None:
            self._windows.close()
        self._windows = None
        self._closed = True
