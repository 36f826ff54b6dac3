"""Steps of several files that wait side by side: run as one, answered each by itself."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engine.base import Cost, PlanInUse, Segment, StepResult, Window
from service.engine.fake import FakeEngine
from service.errors import EngineFailed
from service.scheduling.steps import FileSteps, StepDone
from service.scheduling.workers import WorkerPool
from tests.service_kit import PATIENCE_S, FakeClock, Turnstile

FULL, HALF = FakeEngine().choose(0.0, None, "ladder"), FakeEngine().choose(0.5, None, "ladder")
PICKED = PlanInUse(FULL.strides, 8.0, 8, 0.0, by_input=True)


def window(start_s: float, *, speech: bool = True, hotwords: tuple[str, ...] = ()) -> Window:
    return Window(np.zeros(16, np.float32), start_s, start_s + 1, speech, hotwords)


@asynccontextmanager
async def steps_on(
    engine: FakeEngine, most_windows: int = 4
) -> AsyncGenerator[tuple[FileSteps, FakeClock]]:
    clock = FakeClock()
    pool = WorkerPool("engine", num_threads=1, max_waiting=20, clock=clock)
    try:
        yield FileSteps(pool, engine, most_windows=lambda: most_windows, clock=clock), clock
    finally:
        await asyncio.to_thread(pool.close, timeout_s=PATIENCE_S)


def run(
    steps: FileSteps, *starts: float, plan: PlanInUse = FULL, **how: Any
) -> asyncio.Task[StepDone]:
    return asyncio.create_task(steps.run(object(), [window(at, **how) for at in starts], plan))


async def sizes_behind_a_first(
    turnstile: Turnstile, most_windows: int, *starts: Sequence[float], **how: Any
) -> list[int]:
    """Windows of each step of the engine, where all but the first file came while it was busy."""
    async with steps_on(FakeEngine(before_step=turnstile), most_windows) as (steps, _):
        first = run(steps, 100.0)
        await turnstile.wait_for_step(1)
        others = [run(steps, *one, **how) for one in starts]
        await asyncio.sleep(0)
        turnstile.let_through(len(starts) + 1)
        await asyncio.gather(first, *others)
    return [len(windows) for windows in turnstile.started]


async def test_what_waits_side_by_side_is_run_as_one() -> None:
    assert await sizes_behind_a_first(Turnstile(), 4, [0], [1], [2], [3]) == [1, 4]


async def test_no_more_windows_than_a_step_may_have() -> None:
    assert await sizes_behind_a_first(Turnstile(), 3, [0], [1, 2, 3], [4], [5]) == [1, 3, 3]


async def test_a_file_may_have_more_windows_than_a_step_and_keeps_them_together() -> None:
    assert await sizes_behind_a_first(Turnstile(), 1, [0, 1], [2]) == [1, 2, 1]


async def test_a_plan_that_the_input_picks_is_run_alone() -> None:
    assert await sizes_behind_a_first(Turnstile(), 4, [0], [1], plan=PICKED) == [1, 1, 1]


async def test_files_at_other_depths_or_with_other_hotwords_are_not_mixed() -> None:
    turnstile = Turnstile()
    async with steps_on(FakeEngine(before_step=turnstile)) as (steps, _):
        first = run(steps, 0)
        await turnstile.wait_for_step(1)
        others = [
            run(steps, 1), run(steps, 2, plan=HALF), run(steps, 3, hotwords=("one",)), run(steps, 4)
        ]  # fmt: skip
        await asyncio.sleep(0)
        turnstile.let_through(5)
        await asyncio.gather(first, *others)

    assert [[one.start_s for one in windows] for windows in turnstile.started] == [
        [0], [1, 4], [2], [3]
    ]  # fmt: skip


class Named(FakeEngine):
    """Says which windows it heard."""

    def transcribe(self, windows: Sequence[Window], plan: PlanInUse) -> StepResult:
        super().transcribe(windows, plan)
        return StepResult(
            tuple(Segment(w.start_s, w.end_s, f"{w.start_s:g}") for w in windows),
            tuple(Cost(flops=round(10**w.start_s)) for w in windows),
        )


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.integers(1, 5))
def test_each_file_gets_its_own_words_and_its_own_cost(sizes: list[int], most: int) -> None:
    starts = iter(range(100))
    files = [[float(next(starts)) for _ in range(size)] for size in sizes]

    async def heard() -> list[StepDone]:
        async with steps_on(Named(), most) as (steps, _):
            return await asyncio.gather(*(run(steps, *one) for one in files))

    for file, done in zip(files, asyncio.run(heard()), strict=True):
        assert [segment.text for segment in done.result.segments] == [f"{at:g}" for at in file]
        assert done.result.cost.flops == sum(round(10**at) for at in file)
        assert len(file) <= done.num_windows <= max(most, len(file))


async def test_what_the_input_picked_is_told() -> None:
    class Picking(FakeEngine):
        def transcribe(self, windows: Sequence[Window], plan: PlanInUse) -> StepResult:
            result = super().transcribe(windows, plan)
            return StepResult(result.segments, result.costs, (HALF,) * len(windows))

    async with steps_on(Picking()) as (steps, _):
        done = await run(steps, 0, 1, plan=PICKED)

    assert done.result.plans == (HALF, HALF)


async def test_the_wait_ends_when_the_step_begins() -> None:
    turnstile = Turnstile()
    async with steps_on(FakeEngine(before_step=turnstile)) as (steps, clock):
        first = run(steps, 0)
        await turnstile.wait_for_step(1)
        others = [run(steps, 1), run(steps, 2)]
        await asyncio.sleep(0)
        clock.now_s += 3
        turnstile.let_through()
        await turnstile.wait_for_step(2)
        clock.now_s += 50
        turnstile.let_through()
        waits = [done.wait_s for done in await asyncio.gather(first, *others)]

    assert waits == [0, 3, 3]


async def test_windows_that_fail_a_step_fail_no_other_file() -> None:
    turnstile = Turnstile()

    def fail_on_two(windows: Any, plan: PlanInUse) -> None:
        turnstile(windows, plan)
        if any(one.start_s == 2 for one in windows):
            raise ZeroDivisionError

    async with steps_on(FakeEngine(before_step=fail_on_two)) as (steps, _):
        first = run(steps, 0)
        await turnstile.wait_for_step(1)
        others = [run(steps, at) for at in (1, 2, 3)]
        await asyncio.sleep(0)
        turnstile.let_through(9)
        await first
        heard = await asyncio.gather(*others, return_exceptions=True)

    assert [type(one) for one in heard] == [StepDone, EngineFailed, StepDone]


async def test_a_file_that_was_given_up_is_run_with_nobody() -> None:
    turnstile = Turnstile()
    async with steps_on(FakeEngine(before_step=turnstile)) as (steps, _):
        first = run(steps, 0)
        await turnstile.wait_for_step(1)
        gone, stays = run(steps, 1), run(steps, 2)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        turnstile.let_through(2)
        await asyncio.gather(first, stays)

    assert [[one.start_s for one in windows] for windows in turnstile.started] == [[0], [2]]


def test_windows_without_speech_cost_nothing() -> None:
    result = FakeEngine().transcribe([window(0, speech=False), window(1)], FULL)

    assert result.costs[0] == Cost()
    assert result.cost == result.costs[1]
