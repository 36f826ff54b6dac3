import asyncio
import threading
from collections.abc import AsyncGenerator, Generator

import numpy as np
import pytest

from service.engine.base import Window
from service.errors import AudioTruncated
from service.scheduling.windows import WindowReader
from service.scheduling.workers import WorkerPool
from tests.service_kit import PATIENCE_S, FakeClock, until


class CountingSource:
    """Windows that count how many were decoded and whether decoding was let go."""

    def __init__(self, num_windows: int) -> None:
        self._num_windows = num_windows
        self.num_decoded = 0
        self.let_go = False
        self.gate = threading.Event()
        self.gate.set()

    def open(self) -> Generator[Window]:
        try:
            for index in range(self._num_windows):
                assert self.gate.wait(PATIENCE_S)
                self.num_decoded += 1
                yield Window(np.zeros(1, np.float32), float(index), index + 1.0, speech=True)
        finally:
            self.let_go = True


@pytest.fixture
async def pool() -> AsyncGenerator[WorkerPool]:
    pool = WorkerPool("test", num_threads=2, max_waiting=8, clock=FakeClock())
    yield pool
    await asyncio.to_thread(pool.close, timeout_s=PATIENCE_S)


def reader_of(pool: WorkerPool, source: CountingSource) -> WindowReader:
    return WindowReader(pool, object(), source.open, batch_windows=lambda: 2, clock=FakeClock())


async def test_batches_hold_all_windows_in_order_and_end_with_none(pool: WorkerPool) -> None:
    reader = reader_of(pool, CountingSource(5))

    batches = [(await reader.next_batch()).windows for _ in range(4)]

    assert [[window.start_s for window in batch] for batch in batches] == [[0, 1], [2, 3], [4], []]


async def test_nothing_is_decoded_that_was_not_asked_for(pool: WorkerPool) -> None:
    source = CountingSource(100)
    reader = reader_of(pool, source)

    await reader.next_batch()

    assert source.num_decoded == 2


async def test_closing_lets_the_decoder_go(pool: WorkerPool) -> None:
    source = CountingSource(100)
    reader = reader_of(pool, source)
    await reader.next_batch()

    reader.close()

    assert source.let_go
    assert not (await reader.next_batch()).windows


async def test_closing_before_the_first_batch_never_opens_the_file(pool: WorkerPool) -> None:
    source = CountingSource(3)
    reader = reader_of(pool, source)

    reader.close()

    assert not (await reader.next_batch()).windows
    assert not source.num_decoded


async def test_closing_stops_a_decoding_under_way_after_its_window(pool: WorkerPool) -> None:
    source = CountingSource(100)
    reader = reader_of(pool, source)
    await reader.next_batch()
    source.gate.clear()
    under_way = asyncio.create_task(reader.next_batch())
    await until(lambda: not pool.num_waiting)
    await asyncio.sleep(0)

    reader.close()
    source.gate.set()

    assert len((await under_way).windows) < 2
    assert source.let_go


async def test_what_decoding_raises_reaches_whoever_asked(pool: WorkerPool) -> None:
    def broken() -> Generator[Window]:
        yield Window(np.zeros(1, np.float32), 0.0, 1.0, speech=True)
        raise AudioTruncated("cut short")

    reader = WindowReader(pool, object(), broken, batch_windows=lambda: 2, clock=FakeClock())

    with pytest.raises(AudioTruncated, match="cut short"):
        await reader.next_batch()
