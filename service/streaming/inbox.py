"""What a client has sent and its session has not taken: bounded, in order.

The event loop puts, the engine's thread takes; each counts on its own side, so no lock is needed.
What happens when it is full is up to the sender of bytes: it stops reading the socket, or drops.
"""

from collections import deque

from service.streaming.commands import Gap, Item, Packet

MAX_ITEMS = 4096
"""However small the packets are."""


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

    @property
    def next_is_command(self) -> bool:
        """Whether no audio comes next; for the side that takes."""
        return bool(self._items) and not isinstance(self._items[0], Packet)

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
