"""Which streams are asked to go on elsewhere, when other replicas have more room than this one.

A move costs its listener a little: captions come late for about a second. So a stream is asked only
if its client can go on elsewhere, at most once in five minutes, and those first that cost most, so
that few have to be.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Protocol

SETTLED_S = 300.0
"""Least time between two moves of one stream."""


class MovableStream(Protocol):
    """A stream as this sees it."""

    @property
    def can_move(self) -> bool:
        """Whether it speaks, its client goes on elsewhere when asked, and it is not ending already."""
        ...

    @property
    def since_move_s(self) -> float | None:
        """Seconds since its last move, which may have brought it here; None if it never moved."""
        ...

    @property
    def cost(self) -> float:
        """What it takes of the engine; compared with that of other streams alone."""
        ...

    def ask_to_move(self) -> None:
        """Tell it to end at its next pause and go on elsewhere."""
        ...


def those_to_move(streams: Iterable[MovableStream], count: int) -> list[MovableStream]:
    """Pick at most so many streams, those that cost most first."""
    settled = [one for one in streams if one.can_move and _has_settled(one)]
    return sorted(settled, key=lambda one: one.cost, reverse=True)[: max(0, count)]


class Moves:
    """The streams of this replica, as far as they can be asked to leave it."""

    def __init__(self) -> None:
        self._streams: dict[MovableStream, None] = {}

    @contextmanager
    def open(self, stream: MovableStream) -> Generator[None]:
        """Let a stream be one of those that may be asked."""
        self._streams[stream] = None
        try:
            yield
        finally:
            del self._streams[stream]

    def ask(self, count: int) -> int:
        """Ask at most so many streams to move; give how many were asked."""
        chosen = those_to_move(self._streams, count)
        for stream in chosen:
            stream.ask_to_move()
        return len(chosen)


def _has_settled(stream: MovableStream) -> bool:
    since_s = stream.since_move_s
    return since_s is None or since_s >= SETTLED_S
