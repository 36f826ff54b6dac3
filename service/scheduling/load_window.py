"""What the live rounds of the last seconds took: latency of chunks, work of the engine, demand."""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from service.scheduling.controller import Reading

WINDOW_S = 3.0
"""Long enough for some tens of chunks, short enough that a depth is judged by its own latency."""
BUSY_S = 1.5
"""Over so much the engine's work is judged: a new load has to show before captions fall behind."""
QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class RoundSample:
    """One round of the live scheduler.

    Args:
        began_s, ended_s: on the engine's thread.
        latencies: of each stream whose audio was taken: from when the audio that completed its
            chunk was there to the end of the step.
        audio_s: seconds of audio taken, of all streams together.
        layers: effective layers, weighed with the audio; 0 without any.
    """

    began_s: float
    ended_s: float
    latencies: tuple[tuple[Hashable, float], ...] = ()
    audio_s: float = 0.0
    layers: float = 0.0

    @property
    def took_s(self) -> float:
        """Time of the engine's thread."""
        return self.ended_s - self.began_s


class LoadWindow:
    """Keeps the rounds of the last seconds.

    Args:
        length_s: how many.
    """

    def __init__(self, length_s: float = WINDOW_S) -> None:
        self._length_s = length_s
        self._rounds: deque[RoundSample] = deque()

    def add(self, sample: RoundSample) -> None:
        """Note a round that has ended."""
        self._rounds.append(sample)

    def rounds(self, now_s: float) -> tuple[RoundSample, ...]:
        """Give those that ended within the window."""
        while self._rounds and self._rounds[0].ended_s < now_s - self._length_s:
            self._rounds.popleft()
        return tuple(self._rounds)

    def read(self, now_s: float, *, since_s: float = -math.inf, waiting_s: float = 0.0) -> Reading:
        """Sum up.

        Args:
            now_s: the moment.
            since_s: latency is that of chunks that came due once a round had begun after it.
            waiting_s: for how long what waits now has waited; no round says so before it ends.
        """
        rounds = self.rounds(now_s)
        # What waited for a round that was under way at the change waited for what was before it.
        fresh_s = min((one.began_s for one in rounds if one.began_s >= since_s), default=math.inf)
        if since_s == -math.inf:
            fresh_s = since_s
        latencies = sorted(
            latency_s
            for one in rounds
            for _, latency_s in one.latencies
            if one.ended_s - latency_s >= fresh_s
        )
        p95_s = latencies[math.ceil(QUANTILE * len(latencies)) - 1] if latencies else 0.0
        streams = {stream for one in rounds for stream, _ in one.latencies}
        from_s = now_s - BUSY_S
        ended_s = sum(max(0.0, one.ended_s - max(one.began_s, from_s)) for one in rounds)
        return Reading(
            now_s,
            max(p95_s, waiting_s),
            len(latencies),
            len(streams),
            min(1.0, (ended_s + waiting_s) / BUSY_S),
        )
