from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Overloaded
from service.scheduling.fairness import MAX_STANDSTILL_S, FairQueue, TwoLanes
from tests.service_kit import FakeClock

OWNERS = st.integers(0, 4)


def test_owners_take_turns_however_much_one_of_them_queued() -> None:
    queue = FairQueue[str](10)
    for item in ("long 1", "long 2", "long 3"):
        queue.put("long", item)
    queue.put("short", "short 1")

    order = [queue.pop() for _ in range(4)]

    assert order == ["long 1", "short 1", "long 2", "long 3"]


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    queue = FairQueue[str](1)
    queue.put("a", "first")

    with pytest.raises(Overloaded, match="too much work is waiting"):
        queue.put("b", "second")

    assert len(queue) == 1
    assert queue.pop() == "first"


def test_a_discarded_item_never_comes_up() -> None:
    queue = FairQueue[str](3)
    queue.put("a", "kept")
    queue.put("a", "dropped")
    queue.put("b", "only")

    queue.discard("a", "dropped")
    queue.discard("b", "only")
    queue.discard("b", "only")
    queue.discard("a", "unknown")

    assert len(queue) == 1
    assert queue.pop() == "kept"


@given(st.lists(OWNERS, max_size=40))
def test_every_item_comes_out_once_and_in_its_owners_order(owners: list[int]) -> None:
    queue = FairQueue[tuple[int, int]](40)
    for number, owner in enumerate(owners):
        queue.put(owner, (owner, number))

    popped = [queue.pop() for _ in owners]

    assert sorted(popped) == sorted((owner, number) for number, owner in enumerate(owners))
    for owner in set(owners):
        own = [number for popped_owner, number in popped if popped_owner == owner]
        assert own == sorted(own)


@given(st.lists(OWNERS, max_size=40))
def test_nobody_is_served_twice_while_another_waits(owners: list[int]) -> None:
    queue = FairQueue[int](40)
    for owner in owners:
        queue.put(owner, owner)
    left = Counter(owners)
    served: Counter[int] = Counter()

    for _ in owners:
        owner = queue.pop()
        served[owner] += 1
        left[owner] -= 1

        assert all(served[owner] <= served[other] + 1 for other in left if left[other])


def test_urgent_items_go_first() -> None:
    lanes = TwoLanes[str](9, FakeClock())
    lanes.put("file", "patient", urgent=False)
    lanes.put("live", "urgent", urgent=True)

    assert [lanes.pop(), lanes.pop()] == ["urgent", "patient"]
    assert len(lanes) == 0


def test_others_that_have_not_moved_for_too_long_get_one_turn() -> None:
    clock = FakeClock(100.0)
    lanes = TwoLanes[str](9, clock)
    for name in ("first", "second"):
        lanes.put("file", name, urgent=False)
    for _ in range(3):
        lanes.put("live", "urgent", urgent=True)

    order = [lanes.pop()]
    clock.now_s += MAX_STANDSTILL_S
    order += [lanes.pop() for _ in range(4)]

    assert order == ["urgent", "first", "urgent", "urgent", "second"]


def test_the_wait_of_others_counts_from_when_they_came() -> None:
    clock = FakeClock(100.0)
    lanes = TwoLanes[str](9, clock)
    lanes.put("file", "patient", urgent=False)
    lanes.put("live", "urgent", urgent=True)
    clock.now_s += MAX_STANDSTILL_S - 0.1

    assert lanes.pop() == "urgent"


def test_an_item_is_discarded_from_the_lane_it_is_in() -> None:
    lanes = TwoLanes[str](9, FakeClock())
    lanes.put("file", "a", urgent=False)
    lanes.put("live", "b", urgent=True)

    lanes.discard("file", "a")
    lanes.discard("live", "b")

    assert len(lanes) == 0
