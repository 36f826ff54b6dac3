"""What a stream has to tell and its client has not been sent: bounded, whoever does not read.

A newer partial, lag or totals message takes the place of the one before. The rest is kept in order;
more of it than fits means that the client does not read, and ends the stream.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from service.errors import CallerError, ClientTooSlow, ServiceError, Unavailable
from service.streaming.events import Event, Final, Lag, Partial, Refused, Stats

MAX_EVENTS = 256


class Outbox:
    """The way out of a session, on the event loop alone."""

    def __init__(self) -> None:
        self._waiting: deque[Event | ServiceError] = deque()
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, events: Sequence[Event]) -> None:
        """Add events; outdated ones that wait are forgotten."""
        for event in events:
            self._forget_outdated_by(event)
            self._waiting.append(event)
        if len(self._waiting) > MAX_EVENTS:
            self._waiting.clear()
            self._waiting.append(
                ClientTooSlow(f"expected a client that reads, got {MAX_EVENTS} messages unsent")
            )
        self._news.set()

    def refuse(self, error: CallerError | Unavailable) -> None:
        """Tell of an error that the stream survives."""
        self.put([Refused(error)])

    def fail(self, error: ServiceError) -> None:
        """Have the stream end with an error, behind what there is to tell."""
        self._waiting.append(error)
        self._news.set()

    async def take(self) -> Event:
        """Wait for the next event.

        Raises:
            ServiceError: the stream has failed.
        """
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        event = self._waiting.popleft()
        if isinstance(event, ServiceError):
            raise event
        return event

    def _forget_outdated_by(self, event: Event) -> None:
        if isinstance(event, Partial | Lag | Stats):
            outdated = [one for one in self._waiting if type(one) is type(event)]
        elif isinstance(event, Final):
            outdated = [one for one in self._waiting if isinstance(one, Partial)]
        else:
            return
        for one in outdated:
            self._waiting.remove(one)
