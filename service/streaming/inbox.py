"""What a client has sent and its session has not taken: bounded, in order.

The event loop puts, the engine's thread takes; each counts on its own side, so no lock is needed.
What happens when it is full is up to the sender of bytes: it stops reading the socket, or drops.
"""

from collections import deque

from service.streaming.commands import Command, Gap, Item, Packet, Stop

MAX_ITEMS = 4096
"""However small the packets are."""
MAX_ROUND_COMMANDS = 64
"""Of one stream in one round; each may have an answer, and the outbox is bounded."""


class Inbox:
    """The way into a session.

    Args:
        max_bytes: of audio that waits.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._put_bytes = 0
        self._taken_bytes = 0
        self._gap = Gap(0, 0.0)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of audio that wait."""
        return self._put_bytes - self._taken_bytes

    @property
    def full(self) -> bool:
        """Whether the next packet has to wait or to go."""
        return self.waiting_bytes >= self._max_bytes or len(self._items) >= MAX_ITEMS

    def put(self, item: Item) -> None:
        """Add what came in, behind the gap of what was dropped before it."""
        if self._gap.num_bytes:
            self._items.append(self._gap)
            self._gap = Gap(0, 0.0)
        if isinstance(item, Packet):
            self._put_bytes += len(item.pcm)
        self._items.append(item)

    def drop(self, num_bytes: int, arrived_s: float) -> None:
        """Note bytes that are not kept; a gap that goes on is one gap."""
        self._gap = Gap(self._gap.num_bytes + num_bytes, arrived_s)

    def take(self) -> Item | None:
        """Take what came first."""
        if not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, Packet):
            self._taken_bytes += len(item.pcm)
        return item

    def take_commands(self, first: Gap | Command) -> list[Gap | Command]:
        """Take what follows a command up to the next audio, a round's worth of it at most."""
        taken = [first]
        # A gap and an end are for themselves: what they leave behind is heard before what follows.
        while self._items and not isinstance(taken[-1], Gap | Stop):
            following = self._items[0]
            if isinstance(following, Packet) or len(taken) == MAX_ROUND_COMMANDS:
                break
            taken.append(following)
            self._items.popleft()
        return taken
