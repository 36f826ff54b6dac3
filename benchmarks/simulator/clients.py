"""Simulated clients: packets of 100 ms by the clock, one timer for all of them.

Clients are spread over ten phases of 10 ms, so that packets of many do not come at the same moment.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from service.engine.base import SAMPLE_RATE_HZ
from service.errors import ServiceError
from service.scheduling.clock import Clock
from service.streaming.commands import Packet, Stop
from service.streaming.events import Done, Event
from service.streaming.inbox import Inbox
from service.streaming.outbox import Outbox

PACKET_S = 0.1
PHASES = 10
PACKET = bytes(2 * round(PACKET_S * SAMPLE_RATE_HZ))
"""Nobody listens to it: the gate hears what was drawn, and the engine counts samples."""


class Reader(Outbox):
    """A client that reads at once; a subclass, as sessions put what they tell into an `Outbox`.

    Args:
        ended: called with the error that a stream ended with, or None.
    """

    def __init__(self, ended: Callable[[ServiceError | None], None]) -> None:
        super().__init__()
        self._ended = ended

    def put(self, events: Sequence[Event]) -> None:
        """Read what there is to tell."""
        if any(isinstance(event, Done) for event in events):
            self._ended(None)

    def fail(self, error: ServiceError) -> None:
        """Learn that the stream has failed."""
        self._ended(error)


class Speaker:
    """One client that speaks until its time is over, then stops and waits for its last final.

    Args:
        duration_s: it speaks for so long.
        inbox: of its session.
        wake: tells the scheduler.
        place: given back at the end: the scheduler's, and the door's.
        clock: of the loop.
    """

    def __init__(
        self,
        duration_s: float,
        inbox: Inbox,
        wake: Callable[[], None],
        place: ExitStack,
        clock: Clock,
    ) -> None:
        self._inbox = inbox
        self._wake = wake
        self._place = place
        self._clock = clock
        self._packets_left = max(1, round(duration_s / PACKET_S))

    @property
    def silent(self) -> bool:
        """Whether it has nothing more to send."""
        return self._packets_left < 0

    def speak(self) -> None:
        """Send the next packet, or the end."""
        if self._packets_left:
            if self._inbox.full:
                self._inbox.drop(len(PACKET), self._clock())
            else:
                self._inbox.put(Packet(PACKET, self._clock()))
        else:
            self._inbox.put(Stop())
        self._packets_left -= 1
        self._wake()

    def end(self) -> float:
        """Say no more, and give the seconds that were left to say; the next beat sends the end."""
        left_s = max(0, self._packets_left) * PACKET_S
        self._packets_left = min(0, self._packets_left)
        return left_s

    def leave(self) -> None:
        """Go, all told or not."""
        self._packets_left = -1
        self._place.close()


class Metronome:
    """Lets every speaker speak each 100 ms, in its phase."""

    def __init__(self) -> None:
        self._speakers: list[dict[Speaker, None]] = [{} for _ in range(PHASES)]
        self._next = 0

    def add(self, speaker: Speaker) -> None:
        """Let one take part; its first packet is full 100 ms from now."""
        self._speakers[(self._next - 1) % PHASES][speaker] = None

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        beat = 0
        while True:
            beat += 1
            await asyncio.sleep(max(0.0, beat * PACKET_S / PHASES - loop.time()))
            speakers = self._speakers[self._next]
            self._next = (self._next + 1) % PHASES
            for speaker in list(speakers):
                speaker.speak()
                if speaker.silent:
                    del speakers[speaker]
