"""How far an archive job is, in one line: hours done, times real time, when it may end."""

from dataclasses import dataclass

from service.scheduling.clock import Clock

_MINUTE_S = 60
_HOUR_S = 3600
_FIRST_ESTIMATE_S = 2.0
"""Before that an estimate would be of the start alone."""


@dataclass(slots=True)
class ArchiveProgress:
    """Counts files as they end; how much is left is judged by bytes, which are known beforehand.

    Time counts from when it is made, so it has the start of the actors in it.

    Args:
        clock: monotonic seconds.
        num_files: to do in this run.
        size_bytes: of all of them.
    """

    clock: Clock
    num_files: int
    size_bytes: int
    num_done: int = 0
    num_failed: int = 0
    audio_s: float = 0.0
    flops: int = 0
    _done_bytes: int = 0
    _started_s: float = 0.0

    def __post_init__(self) -> None:
        self._started_s = self.clock()

    def done(self, size_bytes: int, audio_s: float, flops: int, *, failed: bool) -> None:
        """Count a file."""
        self.num_done += 1
        self.num_failed += failed
        self.audio_s += audio_s
        self.flops += flops
        self._done_bytes += size_bytes

    @property
    def took_s(self) -> float:
        """Seconds since it began."""
        return self.clock() - self._started_s

    @property
    def speed(self) -> float:
        """Seconds of audio in a second."""
        return self.audio_s / self.took_s if self.took_s else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest may take; None while nobody can know."""
        took_s = self.took_s
        if not self._done_bytes or took_s < _FIRST_ESTIMATE_S:
            return None
        return took_s * max(0, self.size_bytes - self._done_bytes) / self._done_bytes

    def line(self) -> str:
        """Say all of it."""
        parts = [
            f"{self.num_done} of {self.num_files} files",
            f"{self.audio_s / _HOUR_S:.2f} h of audio",
            f"{self.speed:.0f}x real time",
        ]
        if self.num_failed:
            parts.append(f"{self.num_failed} failed")
        if self.left_s is not None and self.num_done < self.num_files:
            parts.append(f"{_duration(self.left_s)} to go")
        return ", ".join(parts)


def _duration(duration_s: float) -> str:
    hours, rest_s = divmod(round(duration_s), _HOUR_S)
    minutes, seconds = divmod(rest_s, _MINUTE_S)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
