"""The bounded ways into a session and out of it, and the pace of what comes in."""

import asyncio

import pytest

from service.engine.base import PlanInUse
from service.errors import ClientTooSlow, EngineFailed, MessageInvalid
from service.streaming.commands import Flush, Gap, Packet
from service.streaming.events import Event, Final, Lag, Marked, Partial, Refused
from service.streaming.inbox import MAX_ITEMS, Inbox
from service.streaming.outbox import MAX_EVENTS, Outbox
from service.streaming.pace import LIVE_S, Pace

PLAN = PlanInUse((1,), 1.0, 1, 0.0)


def partial(text: str) -> Partial:
    return Partial(0, 0.0, 1.0, text, 0, 1.0, 0.1)


def final(text: str) -> Final:
    return Final(0, 0.0, 1.0, text, (), 1.0, ((0.0, PLAN),), 0.0, 1, 0.1, 0.1, "endpoint")


async def drained(outbox: Outbox) -> list[Event]:
    return [await outbox.take() for _ in range(len(outbox))]


def test_items_come_out_in_order() -> None:
    inbox = Inbox(10)
    items = [Packet(b"ab", 0.0), Flush(), Packet(b"c", 1.0)]
    for item in items:
        inbox.put(item)

    assert inbox.waiting_bytes == 3
    assert [inbox.take() for _ in range(4)] == [*items, None]
    assert inbox.waiting_bytes == 0


def test_an_inbox_is_full_at_its_bytes() -> None:
    inbox = Inbox(4)
    inbox.put(Packet(b"abcd", 0.0))
    assert inbox.full

    inbox.take()

    assert not inbox.full


def test_packets_of_a_byte_fill_it_as_well() -> None:
    inbox = Inbox(10**9)
    for _ in range(MAX_ITEMS):
        inbox.put(Packet(b"a", 0.0))

    assert inbox.full


def test_a_gap_that_goes_on_is_one_gap_at_its_place() -> None:
    inbox = Inbox(4)
    inbox.put(Packet(b"abcd", 0.0))
    inbox.drop(3, 1.0)
    inbox.drop(4, 2.0)
    inbox.put(Packet(b"e", 3.0))

    assert [inbox.take() for _ in range(3)] == [
        Packet(b"abcd", 0.0),
        Gap(7, 2.0),
        Packet(b"e", 3.0),
    ]


async def test_a_newer_partial_takes_the_place_of_the_one_before() -> None:
    outbox = Outbox()
    outbox.put([partial("a"), Marked("m"), partial("b")])

    assert await drained(outbox) == [Marked("m"), partial("b")]


async def test_a_final_takes_the_place_of_its_partial_and_stays() -> None:
    outbox = Outbox()
    outbox.put([partial("a"), final("a"), partial("b"), final("b"), Lag(1.0, 0.1, 0.0, 0.5)])

    assert await drained(outbox) == [final("a"), final("b"), Lag(1.0, 0.1, 0.0, 0.5)]


async def test_a_client_that_does_not_read_ends_its_stream_and_frees_what_waited() -> None:
    outbox = Outbox()
    outbox.put([final(str(number)) for number in range(MAX_EVENTS + 1)])

    assert len(outbox) == 1
    with pytest.raises(ClientTooSlow, match=f"got {MAX_EVENTS} messages unsent"):
        await outbox.take()


async def test_a_failure_comes_behind_what_there_is_to_tell() -> None:
    outbox = Outbox()
    outbox.put([final("a")])
    outbox.fail(EngineFailed("expected"))

    assert await outbox.take() == final("a")
    with pytest.raises(EngineFailed):
        await outbox.take()


async def test_an_error_that_is_survived_is_an_event() -> None:
    outbox, error = Outbox(), MessageInvalid("expected")
    outbox.refuse(error)

    assert await outbox.take() == Refused(error)


async def test_taking_waits_for_news() -> None:
    outbox = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)

    outbox.put([Marked("m")])

    assert await taking == Marked("m")


def test_a_live_source_never_waits() -> None:
    pace = Pace(1_000, burst_s=5.0, max_speed=2.0)

    assert {pace.took(100, 0.1 * n) for n in range(1_000)} == {0.0}
    assert not pace.bursting


def test_a_burst_is_taken_at_once_and_the_rest_at_the_speed() -> None:
    pace = Pace(1_000, burst_s=5.0, max_speed=2.0)

    assert pace.took(5_000, 0.0) == 0.0
    assert pace.took(1_000, 0.0) == 0.5
    assert pace.bursting


def test_a_flood_is_held_to_the_speed() -> None:
    pace, now_s = Pace(1_000, burst_s=5.0, max_speed=2.0), 0.0
    for _ in range(1_000):
        now_s += pace.took(1_000, now_s)

    assert now_s == pytest.approx((1_000 - 5) / 2)


def test_a_pause_saves_up_no_more_than_the_burst() -> None:
    pace = Pace(1_000, burst_s=5.0, max_speed=2.0)
    pace.took(1_000, 0.0)

    assert pace.took(6_000, 1_000.0) == 0.5


def test_a_source_that_is_late_by_less_than_the_limit_is_live() -> None:
    pace = Pace(1_000, burst_s=5.0, max_speed=2.0)
    pace.took(round(1_000 * LIVE_S), 0.0)

    assert not pace.bursting
