"""What a client keeps of its stream, so that another connection can go on with it.

           settled           covered     sent          end
    gone   |    kept                     |             |
    -------|-----------------|-----------|-------------|---> samples since the stream began
    finals | heard, not final| on its way| not sent yet|

A connection begins at `settled`: its server is told the stream time and the numbers to go on with,
and keeps nothing of the stream when it ends. Sound that is older than `kept_s` and not yet in a
final is lost; that is said, and never passed over. Nothing here waits or knows of sockets.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

from service.engine.base import SAMPLE_RATE_HZ

KEPT_S = 30.0
"""Of sound; longer than any utterance."""
AHEAD_MARGIN_S = 2.0
"""Under the server's limit for sound that waits, as its messages come only now and then."""
SMALLEST_AHEAD_S = 1.0
ANSWERED_S = 1.0
"""Of sound sent, of which a message has said something: a chunk waits for its end, no longer."""
BYTES_PER_SAMPLE = 2
TOLERANCE_S = 0.001
"""Of times, which messages round to milliseconds."""
MOVED = frozenset({"drain", "move"})

Message = dict[str, Any]  # Any: JSON, at the edge


@dataclass(frozen=True, slots=True)
class Missing:
    """Sound that nobody will hear: it was older than what is kept when a server was there again."""

    start_s: float
    end_s: float


class _Phase(Enum):
    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"


class Resumption:
    """One stream over any number of connections.

    Args:
        rate_hz: of its 16-bit samples.
        kept_s: of sound that is not yet in a final.
    """

    def __init__(self, rate_hz: int = SAMPLE_RATE_HZ, kept_s: float = KEPT_S) -> None:
        self._rate_hz = rate_hz
        self._kept_samples = round(kept_s * rate_hz)
        self._packets: deque[tuple[int, bytes]] = deque()  # from which sample on
        self._end = 0
        self._settled = 0
        self._origin = 0
        self._sent = 0
        self._covered = 0
        self._max_ahead = round(SMALLEST_AHEAD_S * rate_hz)
        self._phase = _Phase.CLOSED
        self._next_utterance = 0
        self._next_message = 0
        self._after: str | None = None
        self._moved_at_s: float | None = None
        self.done_reason: str | None = None
        """Why the last connection ended, if its server said so."""

    @property
    def owed_s(self) -> float:
        """Sound that the next connection would be given."""
        return (self._end - max(self._settled, self._oldest)) / self._rate_hz

    @property
    def covered_s(self) -> float:
        """How far a server has taken the sound into account."""
        return self._covered / self._rate_hz

    @property
    def all_sent(self) -> bool:
        """Whether the server has been sent all there is."""
        return self._sent == self._end

    @property
    def awaits_answer(self) -> bool:
        """Whether a server that lives would have said something about what it was sent."""
        return self._sent - self._covered >= ANSWERED_S * self._rate_hz

    @property
    def is_open(self) -> bool:
        """Whether a server listens."""
        return self._phase is _Phase.OPEN

    @property
    def is_slow(self) -> bool:
        """Whether sound had to go before the connection took it."""
        return self._sent < self._oldest

    def hear(self, pcm: bytes) -> None:
        """Add sound; what is too old by now goes."""
        assert len(pcm) % BYTES_PER_SAMPLE == 0, "expected whole samples"
        if pcm:
            self._packets.append((self._end, pcm))
            self._end += len(pcm) // BYTES_PER_SAMPLE
            self._forget()

    def opening(self, now_s: float) -> dict[str, str]:
        """Give the query of a connection that goes on; it holds until `ready` or `lost`."""
        self._origin = self._sent = self._covered = max(self._settled, self._oldest)
        self._phase = _Phase.OPENING
        self.done_reason = None
        query = {"resumes": "true"}
        if self._origin or self._next_message:
            query["start_s"] = repr(self._origin / self._rate_hz)
            query["utt"] = str(self._next_utterance)
            query["seq"] = str(self._next_message)
        if self._after is not None:
            query["after"] = self._after
        if self._moved_at_s is not None:
            query["moved_s"] = f"{max(0.0, now_s - self._moved_at_s):.3f}"
        return query

    def take(self, message: Message, now_s: float) -> Missing | None:
        """Take a message; `ready` may bring out that sound is missing.

        Raises:
            ConnectionError: it does not go on from the messages before.
        """
        missing = self._begin(message) if message["type"] == "ready" else None
        if "seq" in message:
            self._next_message = message["seq"] + 1
        if isinstance(end_s := message.get("end"), int | float):
            self._covered = max(self._covered, self._position(end_s))
        if message["type"] == "final":
            self._expect("utt", message, self._next_utterance)
            self._next_utterance += 1
            self._settle(message.get("end"))
        elif message["type"] == "lag":
            self._settle(message.get("accepted"))
        elif message["type"] == "done":
            self.done_reason = message.get("reason", "stop")
            self._settle(message.get("end"))
            if self.done_reason in MOVED:
                self._after, self._moved_at_s = self.done_reason, now_s
        return missing

    def packet(self) -> bytes | None:
        """Give what should be sent next, once; None if there is nothing, or the server has enough."""
        has_enough = self._sent - self._covered >= self._max_ahead
        if not self.is_open or has_enough or self.is_slow:
            return None
        for start, pcm in reversed(self._packets):  # outside an outage it is the newest one
            if start <= self._sent < start + len(pcm) // BYTES_PER_SAMPLE:
                rest = pcm[(self._sent - start) * BYTES_PER_SAMPLE :]
                self._sent += len(rest) // BYTES_PER_SAMPLE
                return rest
        return None

    def lost(self) -> None:
        """Learn that the connection is no more, or did not come about."""
        if self._phase is _Phase.OPEN and self.done_reason not in MOVED:
            self._after = "lost"
        self._phase = _Phase.CLOSED
        self._forget()

    def _begin(self, ready: Message) -> Missing | None:
        self._expect("utt", ready, self._next_utterance)
        self._expect("seq", ready, self._next_message)
        asked_s = self._origin / self._rate_hz
        if abs(ready.get("start_s", asked_s) - asked_s) > TOLERANCE_S:
            raise ConnectionError(
                f"expected a stream that goes on at {asked_s:g} s, got {ready['start_s']!r}"
            )
        self._phase = _Phase.OPEN
        limit_s = ready.get("limits", {}).get("max_buffer_s", 0.0) - AHEAD_MARGIN_S
        self._max_ahead = round(max(SMALLEST_AHEAD_S, limit_s) * self._rate_hz)
        settled, self._settled = self._settled, self._origin
        if settled == self._origin:
            return None
        return Missing(settled / self._rate_hz, self._origin / self._rate_hz)

    def _expect(self, name: str, message: Message, number: int) -> None:
        if message.get(name, number) != number:
            raise ConnectionError(f"expected {name} {number} to follow, got {message[name]!r}")

    def _settle(self, end_s: float | None) -> None:
        if end_s is not None:
            self._settled = max(self._settled, min(self._position(end_s), self._end))
            self._forget()

    def _position(self, seconds: float) -> int:
        return round(seconds * self._rate_hz)

    @property
    def _oldest(self) -> int:
        return self._packets[0][0] if self._packets else self._end

    def _forget(self) -> None:
        # What a connection was asked to begin with stays until it has begun.
        oldest = self._end - self._kept_samples
        needed = min(oldest, self._origin) if self._phase is _Phase.OPENING else oldest
        needed = max(needed, min(self._settled, self._sent))
        while self._packets and self._ends(0) <= needed:
            self._packets.popleft()

    def _ends(self, index: int) -> int:
        start, pcm = self._packets[index]
        return start + len(pcm) // BYTES_PER_SAMPLE
