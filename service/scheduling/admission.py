"""Who may come in: the phase of the process, the number of requests, and the bytes of their uploads.

What happens when it is full is written here: a request is refused at once, with a hint when to ask
again, and never queued at the door.
"""

import asyncio
import math
from collections.abc import Callable, Generator
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


class Places:
    """A number of places for one kind of work.

    Args:
        num_places: that many at once.
        clock: measures how long one is taken, for the hint when to ask again.
        refuses: whether one more would be one too many although places are free.
    """

    def __init__(
        self, num_places: int, clock: Clock, refuses: Callable[[], bool] = lambda: False
    ) -> None:
        self._num_places = num_places
        self._refuses = refuses
        self._clock = clock
        self._num_taken = 0
        self._mean_work_s = 1.0

    @property
    def num_taken(self) -> int:
        """Places that are taken."""
        return self._num_taken

    @property
    def full(self) -> bool:
        """Whether nobody more may come in."""
        return self._num_taken >= self._num_places or self._refuses()

    @property
    def retry_after_s(self) -> int:
        """Seconds after which a place is likely to be free."""
        # Free places may be of no use, when `refuses` says so, and only taken ones become free.
        num_leaving = min(self._num_places, max(1, self._num_taken))
        return min(MAX_RETRY_S, max(1, math.ceil(self._mean_work_s / num_leaving)))

    @contextmanager
    def hold(self) -> Generator[None]:
        """Take one of the places.

        Raises:
            Overloaded: nobody more may come in.
        """
        if self.full:
            raise self.refusal()
        self._num_taken += 1
        started_s = self._clock()
        try:
            yield
        finally:
            self._num_taken -= 1
            took_s = self._clock() - started_s
            self._mean_work_s += (1 - FORGETTING) * (took_s - self._mean_work_s)

    def refusal(self) -> Overloaded:
        """Make the answer to one too many."""
        expected = f"a free place among {self._num_places}"
        if self._num_taken < self._num_places:
            expected = "room for one more at the least depth"
        return Overloaded(f"expected {expected}, got none", retry_after_s=self.retry_after_s)


class Admission:
    """Counts requests in and out, and says no.

    A request `enter`s before its body is read and does its `work` in one of `max_requests` places:
    a slow upload therefore takes no place from anyone.

    Args:
        max_requests: requests in work at once.
        clock: measures how long a request is in work, for the hint when to ask again.
        max_streams: streams that speak at once; they have places of their own.
        refuses_streams: whether one more would be one too many although places are free.
        refuses_requests: the same of requests.
    """

    def __init__(
        self,
        max_requests: int,
        clock: Clock,
        *,
        max_streams: int = 1,
        refuses_streams: Callable[[], bool] = lambda: False,
        refuses_requests: Callable[[], bool] = lambda: False,
    ) -> None:
        self._requests = Places(max_requests, clock, refuses_requests)
        self.streams = Places(max_streams, clock, refuses_streams)
        self._phase = Phase.LOADING
        self._num_present = 0
        self._draining = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._cut_off = asyncio.Event()

    @property
    def phase(self) -> Phase:
        """Where the process is in its life."""
        return self._phase

    @property
    def num_working(self) -> int:
        """Requests that are in work; streams do not count."""
        return self._requests.num_taken

    @property
    def saturated(self) -> bool:
        """Whether the next request, or the next stream, would be refused for want of a place."""
        return self._requests.full or self.streams.full

    @property
    def retry_after_s(self) -> int:
        """Seconds after which a place for a request is likely to be free."""
        return self._requests.retry_after_s

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
        self._draining.set()

    async def until_draining(self) -> None:
        """Wait for the moment at which what has no end of its own has to come to one."""
        await self._draining.wait()

    async def drained(self) -> None:
        """Wait until everybody has left, by themselves or because they were cut off."""
        await self._empty.wait()

    def cut_off(self) -> None:
        """Send away whoever is still in: the grace is over."""
        self.drain()
        self._cut_off.set()

    async def until_cut_off(self) -> NoReturn:
        """Wait, beside a request's work, for the moment it has to be given up.

        Raises:
            Draining: that moment has come.
        """
        await self._cut_off.wait()
        raise Draining("the service is stopping", retry_after_s=1)

    @contextmanager
    def enter(self, places: Places | None = None) -> Generator[None]:
        """Be present from the first byte to the answer.

        Args:
            places: those that will be needed; of requests, unless others are named.

        Raises:
            Unavailable: not now, and why.
        """
        refusal = self._refusal(places or self._requests)
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
        with self._requests.hold():
            yield

    def _refusal(self, places: Places) -> Unavailable | None:
        if self._phase is Phase.READY:
            return places.refusal() if places.full else None
        if self._phase is Phase.DRAINING:
            return Draining("the service is stopping", retry_after_s=1)
        return Loading("the model is not loaded", retry_after_s=LOADING_RETRY_S)


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
