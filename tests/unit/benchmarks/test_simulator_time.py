import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulator.virtual_time import VirtualLoop, VirtualWorker, run_virtually
from service.errors import Draining, EngineFailed
from service.scheduling.workers import Done

delays = st.lists(st.floats(0, 1e4), min_size=1, max_size=20)


@settings(max_examples=25)
@given(delays)
def test_the_clock_never_goes_back_and_timers_fire_when_they_are_due(waits_s: list[float]) -> None:
    seen: list[tuple[float, float]] = []

    async def wait(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        seen.append((asyncio.get_running_loop().time(), delay_s))

    async def all_of_them() -> None:
        await asyncio.gather(*map(wait, waits_s))

    run_virtually(all_of_them())

    times = [at_s for at_s, _ in seen]
    assert times == sorted(times)
    assert all(at_s == pytest.approx(delay_s, abs=1e-6) for at_s, delay_s in seen)


def test_waiting_for_nothing_is_an_error_and_no_standstill() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    loop = VirtualLoop()
    with pytest.raises(AssertionError, match="expected something that is still to happen"):
        loop.run_until_complete(forever())
    loop.close()


@settings(max_examples=25)
@given(delays)
def test_work_takes_exactly_the_time_it_spends_one_job_after_the_other(spent: list[float]) -> None:
    ran = run_virtually(jobs(spent))

    total_s = sum(spent)
    assert ran.busy_s == pytest.approx(total_s)
    assert ran.ended_s == pytest.approx(total_s)
    assert [done.value for done in ran.done] == spent
    waits_s = [sum(spent[:place]) for place in range(len(spent))]
    assert [done.wait_s for done in ran.done] == pytest.approx(waits_s)


def test_the_loop_goes_on_while_a_job_spends_time() -> None:
    heard: list[str] = []

    async def both() -> None:
        loop = asyncio.get_running_loop()
        worker = VirtualWorker(loop.time)

        def job() -> None:
            heard.append("begun")
            worker.spend(2.0)
            heard.append("ended")

        loop.call_later(1.0, heard.append, "meanwhile")
        await worker.submit("owner", job)
        worker.close()

    run_virtually(both())

    assert heard == ["begun", "meanwhile", "ended"]


def test_a_job_that_raises_is_heard_of_and_the_next_one_runs() -> None:
    async def two() -> int:
        worker = VirtualWorker(asyncio.get_running_loop().time)
        failing = worker.submit("owner", lambda: 1 // 0)
        after = worker.submit("owner", lambda: 7)
        with pytest.raises(EngineFailed, match="the simulated engine failed"):
            await failing
        done = await after
        worker.close()
        return done.value

    assert run_virtually(two()) == 7


def test_a_closed_worker_takes_nothing() -> None:
    async def late() -> None:
        worker = VirtualWorker(asyncio.get_running_loop().time)
        worker.close()
        assert worker.closed
        with pytest.raises(Draining, match="stopping"):
            worker.submit("owner", lambda: None)

    run_virtually(late())


class Ran:
    def __init__(self, done: list[Done[float]], busy_s: float, ended_s: float) -> None:
        self.done, self.busy_s, self.ended_s = done, busy_s, ended_s


async def jobs(spent: list[float]) -> Ran:
    loop = asyncio.get_running_loop()
    worker = VirtualWorker(loop.time)

    def job(seconds: float) -> Callable[[], float]:
        def run() -> float:
            worker.spend(seconds)
            return seconds

        return run

    done = await asyncio.gather(*[worker.submit("owner", job(one)) for one in spent])
    worker.close()
    return Ran(done, worker.busy_s, loop.time())
