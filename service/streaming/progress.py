"""How far the captions of a stream are behind its audio."""

from collections import deque

from service.engine.base import SAMPLE_RATE_HZ
from service.streaming.events import Lag
from service.streaming.measures import StreamMeasures

LAG_EVERY_S = 0.4
"""Of stream time between two messages that move `end`; half a second is promised."""
_MERGED_SAMPLES = SAMPLE_RATE_HZ // 50
"""Packets are counted together, as if they had come with the first, up to 20 ms."""


class Progress:
    """Knows when audio arrived and how far messages have taken it into account.

    Args:
        measures: told the lag of every packet.
    """

    def __init__(self, measures: StreamMeasures) -> None:
        self._measures = measures
        self._arrivals: deque[tuple[int, float]] = deque()
        self._last_start = self._last_end = 0  # of what was noted last
        self._end = 0
        self._covered_arrived_s: float | None = None
        self._collected_s = self._collected_before_s = float("-inf")

    @property
    def end_s(self) -> float:
        """The `end` of the last message."""
        return self._end / SAMPLE_RATE_HZ

    def arrived(self, end: int, arrived_s: float) -> None:
        """Note a packet that ends at a position."""
        if self._arrivals and end - self._last_start < _MERGED_SAMPLES:
            arrived_s = self._arrivals.pop()[1]
        else:
            self._last_start = self._last_end
        self._arrivals.append((end, arrived_s))
        self._last_end = end

    def collecting(self, now_s: float) -> None:
        """Note that what came in is taken, and given to the gate, at once."""
        self._collected_before_s, self._collected_s = self._collected_s, now_s

    def due_since(self, position: int, now_s: float) -> float:
        """When a sample could have been encoded: not before the gate was asked the last time.

        Audio of a pause is held back and arrived long before somebody speaks on.
        """
        return max(self.arrival_of(position, now_s), self._collected_before_s)

    def arrival_of(self, position: int, now_s: float) -> float:
        """When a sample came; now, if it is accounted for already."""
        return next((at_s for end, at_s in self._arrivals if end >= position), now_s)

    def cover(self, position: int, now_s: float) -> float:
        """Move `end` for a message that leaves now; give the age of the last packet it covers."""
        self._end = max(self._end, position)
        while self._arrivals and self._arrivals[0][0] <= self._end:
            self._covered_arrived_s = self._arrivals.popleft()[1]
            self._measures.lag(max(0.0, now_s - self._covered_arrived_s))
        arrived_s = now_s if self._covered_arrived_s is None else self._covered_arrived_s
        return max(0.0, now_s - arrived_s)

    def lag_due(self, covered: int, received: int, settled: int, now_s: float) -> Lag | None:
        """Move `end` by a message of its own, once it has got far enough ahead.

        Args:
            covered: how far audio has been taken into account.
            received: how far it has come.
            settled: how far all speech is in finals.
            now_s: when the message leaves.
        """
        if covered - self._end < LAG_EVERY_S * SAMPLE_RATE_HZ:
            return None
        lag_s = self.cover(covered, now_s)
        buffered_s = (received - self._end) / SAMPLE_RATE_HZ
        return Lag(self.end_s, lag_s, buffered_s, settled / SAMPLE_RATE_HZ)
