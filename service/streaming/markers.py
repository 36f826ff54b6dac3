"""Places in a stream that its client wants to hear back of: bounded, as nothing else bounds them."""

from collections import deque
from collections.abc import Generator

from service.engine.base import GATE_FRAME_SAMPLES
from service.errors import MessageInvalid
from service.streaming.events import Event, Marked, Refused

MAX_WAITING_MARKERS = 128
"""Of one stream; all of them may be reached at once, and an outbox holds 256 events."""


class Markers:
    """The markers that wait, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, str]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether another one would be refused."""
        return len(self._waiting) >= MAX_WAITING_MARKERS

    def add(self, end: int, name: str) -> list[Event]:
        """Put a marker behind what was received; one too many is refused, which is told."""
        if self.full:
            return [Refused(too_many_markers())]
        # The gate answers for whole frames; what is left of one would wait for more audio.
        self._waiting.append((end - end % GATE_FRAME_SAMPLES, name))
        return []

    def reached(self, covered: int) -> Generator[Event]:
        """Give back those before which all is taken into account."""
        while self._waiting and self._waiting[0][0] <= covered:
            yield Marked(self._waiting.popleft()[1])


def too_many_markers() -> MessageInvalid:
    """Make the answer to a marker too many."""
    return MessageInvalid(f"expected at most {MAX_WAITING_MARKERS} markers that wait, got more")
