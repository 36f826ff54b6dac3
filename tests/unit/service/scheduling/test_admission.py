import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Draining, Loading, Overloaded, UploadMemoryFull
from service.scheduling.admission import MAX_RETRY_S, Admission, Phase, Places, UploadMemory
from tests.service_kit import FakeClock


def ready(max_requests: int = 2, clock: FakeClock | None = None) -> Admission:
    admission = Admission(max_requests, clock or FakeClock())
    admission.loaded()
    return admission


def test_nobody_comes_in_before_the_model_is_loaded() -> None:
    admission = Admission(2, FakeClock())

    with pytest.raises(Loading) as refused, admission.enter():
        pass

    assert refused.value.retry_after_s > 0
    assert admission.phase is Phase.LOADING


def test_nobody_comes_in_where_loading_failed() -> None:
    admission = Admission(2, FakeClock())

    admission.load_failed()

    with pytest.raises(Loading), admission.enter():
        pass


def test_nobody_comes_in_while_draining() -> None:
    admission = ready()

    admission.drain()

    with pytest.raises(Draining), admission.enter():
        pass


def test_a_model_loaded_too_late_does_not_open_the_door_again() -> None:
    admission = Admission(2, FakeClock())

    admission.drain()
    admission.loaded()

    assert admission.phase is Phase.DRAINING


def test_places_are_given_back_also_when_the_work_fails() -> None:
    admission = ready(max_requests=1)

    with pytest.raises(ZeroDivisionError), admission.work():
        raise ZeroDivisionError

    assert not admission.saturated


def test_the_request_after_the_last_place_is_refused_at_the_door() -> None:
    admission = ready(max_requests=1)

    with admission.work(), pytest.raises(Overloaded, match="free place among 1"), admission.enter():
        pass


def test_one_who_was_in_before_the_last_place_went_is_refused_at_work() -> None:
    admission = ready(max_requests=1)

    with admission.enter(), admission.work(), pytest.raises(Overloaded), admission.work():
        pass


def test_the_hint_follows_how_long_requests_take() -> None:
    clock = FakeClock()
    admission = ready(max_requests=2, clock=clock)
    for _ in range(30):
        with admission.work():
            clock.now_s += 20

    with admission.work(), admission.work():
        assert admission.retry_after_s == pytest.approx(10, abs=1)


def test_only_places_that_are_taken_become_free() -> None:
    clock = FakeClock()
    places = Places(32, clock, refuses=lambda: places.num_taken >= 2)
    for _ in range(30):
        with places.hold():
            clock.now_s += 20

    with places.hold(), places.hold(), pytest.raises(Overloaded) as refused, places.hold():
        pass

    assert refused.value.retry_after_s == pytest.approx(10, abs=1)


def test_the_hint_stays_within_reason() -> None:
    clock = FakeClock()
    admission = ready(max_requests=1, clock=clock)
    with admission.work():
        clock.now_s += 1e6

    assert admission.retry_after_s == MAX_RETRY_S


async def test_the_drain_ends_when_the_last_one_leaves() -> None:
    admission = ready()
    with admission.enter():
        with admission.enter():
            admission.drain()
            waiting = asyncio.create_task(admission.drained())
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()

    await waiting


async def test_those_who_are_cut_off_hear_why() -> None:
    admission = ready()
    guard = asyncio.create_task(admission.until_cut_off())
    await asyncio.sleep(0)

    admission.cut_off()

    with pytest.raises(Draining):
        await guard
    assert admission.phase is Phase.DRAINING


@given(st.lists(st.integers(0, 50), max_size=20))
def test_leases_never_hold_more_than_there_is_and_give_all_back(sizes: list[int]) -> None:
    memory = UploadMemory(100)

    with memory.lease() as first, memory.lease() as second:
        for index, size in enumerate(sizes):
            try:
                (first, second)[index % 2].take(size)
            except UploadMemoryFull:
                assert memory.used_bytes + size > 100
            assert memory.used_bytes == first.held_bytes + second.held_bytes <= 100

    assert memory.used_bytes == 0


def test_streams_have_places_of_their_own() -> None:
    admission = Admission(1, FakeClock(), max_streams=1)
    admission.loaded()

    with admission.streams.hold():
        assert admission.saturated
        with admission.enter(), admission.work():
            pass
        with (
            pytest.raises(Overloaded, match="free place among 1"),
            admission.enter(admission.streams),
        ):
            pass

    assert not admission.saturated


def test_a_file_takes_no_place_of_a_stream() -> None:
    admission = Admission(1, FakeClock(), max_streams=1)
    admission.loaded()

    with admission.work(), admission.enter(admission.streams), admission.streams.hold():
        assert admission.streams.full


async def test_who_has_no_end_of_its_own_is_told_of_a_drain() -> None:
    admission = Admission(1, FakeClock())
    waiting = asyncio.create_task(admission.until_draining())
    await asyncio.sleep(0)
    assert not waiting.done()

    admission.drain()

    await asyncio.wait_for(waiting, 1)


async def test_a_cut_off_is_a_drain_as_well() -> None:
    admission = Admission(1, FakeClock())

    admission.cut_off()

    await asyncio.wait_for(admission.until_draining(), 1)
