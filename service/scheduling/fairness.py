"""A bounded queue that takes turns among its owners, so that no long request starves a short one."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from service.errors import Overloaded
from service.scheduling.clock import Clock

Item = TypeVar("Item")

RETRY_AFTER_S = 1
"""Seconds; a queue that is full now has usually moved by then."""
MAX_STANDSTILL_S = 10.0
"""Time for which urgent items alone may have their turn while others wait."""


class FairQueue(Generic[Item]):
    """First in, first out for each owner; round robin among owners.

    Between two items of one owner, every other owner that was waiting gets a turn. An owner is
    forgotten with its last item, so that nothing grows with the owners ever seen.

    Args:
        max_items: items of all owners together; `put` raises Overloaded beyond.
    """

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._waiting: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._num_items = 0

    def __len__(self) -> int:
        return self._num_items

    def put(self, owner: Hashable, item: Item) -> None:
        """Queue an item behind the others of its owner.

        Raises:
            Overloaded: there is no room.
        """
        if self._num_items >= self._max_items:
            raise Overloaded("too much work is waiting", retry_after_s=RETRY_AFTER_S)
        self._waiting.setdefault(owner, deque()).append(item)
        self._num_items += 1

    def pop(self) -> Item:
        """Take the next item of the owner whose turn it is; the owner goes to the back."""
        owner, items = next(iter(self._waiting.items()))
        item = items.popleft()
        self._num_items -= 1
        if items:
            self._waiting.move_to_end(owner)
        else:
            del self._waiting[owner]
        return item

    def discard(self, owner: Hashable, item: Item) -> None:
        """Forget an item that nobody waits for any more; one already taken is no matter."""
        items = self._waiting.get(owner)
        if items is None or item not in items:
            return
        items.remove(item)
        self._num_items -= 1
        if not items:
            del self._waiting[owner]


class TwoLanes(Generic[Item]):
    """Urgent items before the others, which still get a turn now and then.

    Args:
        max_items: of each lane; `put` raises Overloaded beyond.
        clock: measures how long the others have not moved.
    """

    def __init__(self, max_items: int, clock: Clock) -> None:
        self._urgent: FairQueue[Item] = FairQueue(max_items)
        self._others: FairQueue[Item] = FairQueue(max_items)
        self._clock = clock
        self._others_moved_s = 0.0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def put(self, owner: Hashable, item: Item, *, urgent: bool) -> None:
        """Queue an item behind the others of its owner and lane.

        Raises:
            Overloaded: there is no room.
        """
        if urgent:
            self._urgent.put(owner, item)
            return
        if not len(self._others):
            self._others_moved_s = self._clock()
        self._others.put(owner, item)

    def pop(self) -> Item:
        """Take the next item of the lane whose turn it is."""
        standstill_s = self._clock() - self._others_moved_s
        others_first = len(self._others) and standstill_s >= MAX_STANDSTILL_S
        if len(self._urgent) and not others_first:
            return self._urgent.pop()
        self._others_moved_s = self._clock()
        return self._others.pop()

    def discard(self, owner: Hashable, item: Item) -> None:
        """Forget an item that nobody waits for any more; one already taken is no matter."""
        self._urgent.discard(owner, item)
        self._others.discard(owner, item)
