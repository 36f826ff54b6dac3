"""Who may come in: the phase of the process, the number of requests, and the bytes of their uploads.

What happens when it is full is written here: a request is refused at once, with a hint when to ask
again, and never queued at the door.
"""

import asyncio
import math
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from typing import NoReturn

from service.errors import Draining, Loading, Overloaded, Unavailable, UploadMemoryFull
from service.scheduling.clock import Clock

LOADING_RETRY_S = 5
MAX_RETRY_S = 30
FORGETTING = 0.8
"""Share of the old mean that is kept with each new request."""


class Phase(Enum):
    """Where the process is in its life; the value is what `/readyz` says."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "load_failed"


class Admission:
    """Counts requests in and out, and says no.

    A request `enter`s before its body is read and does its `work` in one of `max_requests` places:
    a slow upload therefore takes no place from anyone.

    Args:
        max_requests: requests in work at once.
        clock: measures how long a request is in work, for the hint when to ask again.
    """

    def __init__(self, max_requests: int, clock: Clock) -> None:
        self._max_requests = max_requests
        self._clock = clock
        self._phase = Phase.LOADING
        self._num_present = 0
        self._num_working = 0
        self._mean_work_s = 1.0
        self._empty = asyncio.Event()
        self._empty.set()
        self._cut_off = asyncio.Event()

    @property
    def phase(self) -> Phase:
        """Where the process is in its life."""
        return self._phase

    @property
    def saturated(self) -> bool:
        """Whether the next request would be refused for want of a place."""
        return self._num_working >= self._max_requests

    @property
    def retry_after_s(self) -> int:
        """Seconds after which a place is likely to be free."""
        return min(MAX_RETRY_S, max(1, math.ceil(self._mean_work_s / self._max_requests)))

    def loaded(self) -> None:
        """Open the door, unless the process is stopping already."""
        if self._phase is Phase.LOADING:
            self._phase = Phase.READY

    def load_failed(self) -> None:
        """Keep the door shut for good."""
        self._phase = Phase.FAILED

    def drain(self) -> None:
        """Shut the door behind those who are in."""
        self._phase = Phase.DRAINING

    async def drained(self) -> None:
        """Wait until everybody has left, by themselves or because they were cut off."""
        await self._empty.wait()

    def cut_off(self) -> None:
        """Send away whoever is still in: the grace is over."""
        self._phase = Phase.DRAINING
        self._cut_off.set()

    async def until_cut_off(self) -> NoReturn:
        """Wait, beside a request's work, for the moment it has to be given up.

        Raises:
            Draining: that moment has come.
        """
        await self._cut_off.wait()
        raise Draining("the service is stopping", retry_after_s=1)

    @contextmanager
    def enter(self) -> Generator[None]:
        """Be present from the first byte to the answer.

        Raises:
            Unavailable: not now, and why.
        """
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        self._num_present += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._num_present -= 1
            if not self._num_present:
                self._empty.set()

    @contextmanager
    def work(self) -> Generator[None]:
        """Hold one of the places.

        Raises:
            Overloaded: all are taken.
        """
        if self.saturated:
            raise self._overloaded()
        self._num_working += 1
        started_s = self._clock()
        try:
            yield
        finally:
            self._num_working -= 1
            took_s = self._clock() - started_s
            self._mean_work_s += (1 - FORGETTING) * (took_s - self._mean_work_s)

    def _refusal(self) -> Unavailable | None:
        if self._phase is Phase.READY:
            return self._overloaded() if self.saturated else None
        if self._phase is Phase.DRAINING:
            return Draining("the service is stopping", retry_after_s=1)
        return Loading("the model is not loaded", retry_after_s=LOADING_RETRY_S)

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"expected a free place among {self._max_requests}, got none",
            retry_after_s=self.retry_after_s,
        )


class UploadMemory:
    """The bytes that all uploads together may hold.

    Args:
        max_bytes: of all uploads that are being read or transcribed.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes held now."""
        return self._used_bytes

    @contextmanager
    def lease(self) -> Generator["UploadLease"]:
        """Account for one upload; what it took is given back at the end."""
        lease = UploadLease(self)
        try:
            yield lease
        finally:
            self._used_bytes -= lease.held_bytes

    def take(self, num_bytes: int) -> None:
        """Add to what is held.

        Raises:
            UploadMemoryFull: there is no room.
        """
        if self._used_bytes + num_bytes > self._max_bytes:
            raise UploadMemoryFull("other uploads fill the memory set aside", retry_after_s=5)
        self._used_bytes += num_bytes


class UploadLease:
    """One upload's share of an `UploadMemory`."""

    def __init__(self, memory: UploadMemory) -> None:
        self._memory = memory
        self.held_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Hold more bytes until the lease ends.

        Raises:
            UploadMemoryFull: there is no room.
        """
        self._memory.take(num_bytes)
        self.held_bytes += num_bytes
