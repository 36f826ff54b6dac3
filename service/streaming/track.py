"""The audio of a stream that may still be needed, addressed by its place in the stream."""

from collections import deque

import numpy as np

from service.engine.base import SAMPLE_RATE_HZ, Samples

_HOP_SAMPLES = SAMPLE_RATE_HZ // 50
_SMOOTHING_HOPS = 5  # 100 ms: shorter dips are stop consonants


class Track:
    """Samples from `start` to `end`, counted from the beginning of the stream."""

    def __init__(self) -> None:
        self._pieces: deque[Samples] = deque()
        self._start = 0
        self._end = 0

    @property
    def end(self) -> int:
        """Where the next sample goes."""
        return self._end

    @property
    def num_held(self) -> int:
        """Samples in memory."""
        return self._end - self._start

    def append(self, samples: Samples) -> None:
        """Add what follows."""
        if len(samples):
            self._pieces.append(samples)
            self._end += len(samples)

    def between(self, start: int, end: int) -> Samples:
        """Give a stretch; all of it has to be held."""
        assert self._start <= start <= end <= self._end, "expected a stretch that is held"
        parts: list[Samples] = []
        at = self._start
        for piece in self._pieces:
            if at >= end:
                break
            if at + len(piece) > start:
                parts.append(piece[max(0, start - at) : end - at])
            at += len(piece)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def forget_before(self, position: int) -> None:
        """Let go of whole pieces that end at or before a place."""
        while self._pieces and self._start + len(self._pieces[0]) <= position:
            self._start += len(self._pieces.popleft())


def quietest_place(samples: Samples) -> int:
    """Find the middle of the quietest 100 ms, the last one among equals; 0 where it is shorter."""
    num_hops = len(samples) // _HOP_SAMPLES
    if num_hops < _SMOOTHING_HOPS:
        return 0
    hops = samples[: num_hops * _HOP_SAMPLES].reshape(num_hops, _HOP_SAMPLES)
    power = np.square(hops).mean(axis=1, dtype=np.float64)
    smooth = np.convolve(power, np.ones(_SMOOTHING_HOPS), mode="valid")
    last = len(smooth) - 1 - int(np.argmin(smooth[::-1]))
    return round((last + _SMOOTHING_HOPS / 2) * _HOP_SAMPLES)
