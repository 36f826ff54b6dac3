import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from service.errors import AudioEmpty, Draining, EngineFailed, Overloaded
from service.scheduling.workers import WorkerPool
from tests.service_kit import PATIENCE_S, FakeClock, until


@asynccontextmanager
async def pool_of(num_threads: int = 1, max_waiting: int = 8) -> AsyncGenerator[WorkerPool]:
    pool = WorkerPool("test", num_threads=num_threads, max_waiting=max_waiting, clock=FakeClock())
    try:
        yield pool
    finally:
        await asyncio.to_thread(pool.close, timeout_s=PATIENCE_S)


class Brake:
    """A job that holds its worker until it is released."""

    def __init__(self) -> None:
        self._release = threading.Event()
        self._started = threading.Event()

    def __call__(self) -> None:
        self._started.set()
        assert self._release.wait(PATIENCE_S)

    def release(self) -> None:
        self._release.set()

    async def started(self) -> None:
        assert await asyncio.to_thread(self._started.wait, PATIENCE_S)


def raising(error: BaseException) -> Callable[[], None]:
    def job() -> None:
        raise error

    return job


async def test_a_job_runs_on_another_thread_and_its_value_comes_back() -> None:
    async with pool_of() as pool:
        done = await pool.submit("owner", threading.get_ident)

    assert done.value != threading.get_ident()


async def test_the_wait_is_the_time_in_the_queue() -> None:
    clock = FakeClock(10.0)
    pool = WorkerPool("test", num_threads=1, max_waiting=8, clock=clock)
    brake = Brake()
    holding = pool.submit("a", brake)
    await brake.started()
    waiting = pool.submit("b", lambda: None)

    clock.now_s = 13.5
    brake.release()
    await holding

    assert (await waiting).wait_s == 3.5


async def test_an_error_of_ours_reaches_the_waiter_as_it_is() -> None:
    async with pool_of() as pool:
        with pytest.raises(AudioEmpty, match="nothing"):
            await pool.submit("owner", raising(AudioEmpty("nothing")))


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), BaseException("secret panic")])
async def test_a_foreign_error_reaches_the_waiter_without_its_words(error: BaseException) -> None:
    async with pool_of() as pool:
        with pytest.raises(EngineFailed) as caught:
            await pool.submit("owner", raising(error))

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is error


async def test_the_loop_lives_on_after_an_error() -> None:
    async with pool_of() as pool:
        failing = pool.submit("a", raising(BaseException()))
        following = pool.submit("b", lambda: "still here")

        with pytest.raises(EngineFailed):
            await failing

        assert (await following).value == "still here"


async def test_a_cancelled_job_leaves_the_queue_and_never_runs() -> None:
    ran: list[str] = []
    brake = Brake()
    async with pool_of() as pool:
        holding = pool.submit("a", brake)
        await brake.started()
        waiting = pool.submit("b", lambda: ran.append("b"))

        waiting.cancel()
        await asyncio.sleep(0)

        assert pool.num_waiting == 0
        brake.release()
        await holding
    assert not ran


async def test_a_job_cancelled_while_it_runs_is_not_heard() -> None:
    brake = Brake()
    async with pool_of() as pool:
        running = pool.submit("a", brake)
        await brake.started()

        running.cancel()
        brake.release()

        assert (await pool.submit("b", lambda: 1)).value == 1


async def test_a_full_queue_refuses() -> None:
    brake = Brake()
    async with pool_of(max_waiting=1) as pool:
        holding = pool.submit("a", brake)
        await brake.started()
        waiting = pool.submit("b", lambda: None)

        with pytest.raises(Overloaded):
            pool.submit("c", lambda: None)

        brake.release()
        await asyncio.gather(holding, waiting)


async def test_closing_finishes_what_waits_and_refuses_what_comes() -> None:
    brake = Brake()
    pool = WorkerPool("test", num_threads=1, max_waiting=8, clock=FakeClock())
    holding = pool.submit("a", brake)
    await brake.started()
    waiting = pool.submit("b", lambda: "done")
    closing = asyncio.create_task(asyncio.to_thread(pool.close, timeout_s=PATIENCE_S))
    await until(lambda: pool.closed)

    with pytest.raises(Draining):
        pool.submit("c", lambda: None)

    brake.release()
    await closing
    assert (await waiting).value == "done"
    assert holding.done()


async def test_closing_does_not_wait_for_ever_for_a_job_that_hangs() -> None:
    brake = Brake()
    pool = WorkerPool("test", num_threads=1, max_waiting=8, clock=FakeClock())
    holding = pool.submit("a", brake)
    await brake.started()

    await asyncio.to_thread(pool.close, timeout_s=0.0)

    assert not holding.done()
    brake.release()
    await holding


def test_an_answer_for_a_loop_that_is_gone_is_dropped() -> None:
    brake = Brake()

    async def submit_and_leave() -> WorkerPool:
        pool = WorkerPool("test", num_threads=1, max_waiting=8, clock=FakeClock())
        pool.submit("a", brake)
        await brake.started()
        return pool

    pool = asyncio.run(submit_and_leave())
    brake.release()
    pool.close(timeout_s=PATIENCE_S)

    assert pool.num_waiting == 0
