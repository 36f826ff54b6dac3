"""How fast a client sends, against real time."""


class Pace:
    """Lets a burst through and holds a flood to a multiple of real time.

    Args:
        bytes_per_s: of the client's audio.
        burst_s: audio ahead of real time that is taken as fast as it comes.
        max_speed: times real time beyond that.
    """

    def __init__(self, bytes_per_s: int, burst_s: float, max_speed: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst_s = burst_s
        self._max_speed = max_speed
        self._ahead_s = 0.0
        self._at_s: float | None = None

    def took(self, num_bytes: int, now_s: float) -> float:
        """Note audio that came in; give the time to wait before more is read."""
        elapsed_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        # A client that paused has not saved up more than its burst.
        self._ahead_s = max(0.0, self._ahead_s - elapsed_s * self._max_speed)
        self._ahead_s += num_bytes / self._bytes_per_s
        return max(0.0, self._ahead_s - self._burst_s) / self._max_speed

    @property
    def bursting(self) -> bool:
        """Whether the client has sent more than a live source could."""
        return self._ahead_s > LIVE_S


LIVE_S = 2.0
"""Audio that a live source may have sent late, all at once."""
