"""Time as everything here sees it: a function that gives monotonic seconds."""

from collections.abc import Callable

Clock = Callable[[], float]
"""`time.monotonic` in production; tests pass one that they turn themselves."""
