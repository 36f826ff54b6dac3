"""Many streams on one engine thread, with streams that do as they are told."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.engine.base import AUTO, DepthChoice, ListenInput, LiveInput, LiveOutput, Samples
from service.engine.fake import FakeEngine
from service.errors import ModelUnusable, PlanInvalid, ServiceError
from service.metrics import create_metrics
from service.scheduling.live import (
    CONTROL_TICK_S,
    MAX_STEP_STREAMS,
    TICK_S,
    LiveScheduler,
    Round,
)
from service.scheduling.live_load import (
    CALM_ROUND_S,
    FULL_ROUND_S,
    MAX_PARTIAL_INTERVAL_S,
    LiveLoad,
)
from service.scheduling.workers import WorkerPool
from service.streaming.dial import Dial
from tests.service_kit import PATIENCE_S, FakeClock, until
from tests.stream_kit import SlowlyWriting

ENGINE = FakeEngine()
INFO = ENGINE.load()
FULL = ENGINE.choose(0.0, None, "ladder")


@dataclass(eq=False)
class Scripted:
    """Has so many steps to do; a step is due whenever it is asked."""

    num_due: int = 1
    ends_next: bool = False
    ends: bool = False
    num_heard: int = 0
    num_stepped: int = 0
    num_published: int = 0
    error: ServiceError | None = None
    waits: bool = False
    state_bytes: int = 100
    intervals_s: list[float] = field(default_factory=list[float])
    due_since_s: float | None = None
    dial: Dial = field(default_factory=lambda: Dial(DepthChoice(AUTO), ENGINE.choose, lambda: 0.0))

    def __post_init__(self) -> None:
        self._utterance = ENGINE.open_utterance()
        self._listener = ENGINE.open_listener()

    @property
    def has_news(self) -> bool:
        return self.num_due > 0

    def collect(self, now_s: float) -> ListenInput | None:
        return ListenInput(self._listener, np.zeros(512, np.float32))

    def heard(self, probabilities: Samples, now_s: float) -> None:
        self.num_heard += len(probabilities)

    def due(self, now_s: float, load: LiveLoad) -> LiveInput | None:
        self.intervals_s.append(load.partial_interval_s)
        if not self.num_due:
            return None
        self.num_due -= 1
        samples = np.zeros(0 if self.num_stepped else 160, np.float32)
        return LiveInput(self._utterance, samples, FULL, ends=self.ends)

    def stepped(self, output: LiveOutput, now_s: float) -> None:
        self.num_stepped += 1

    def publish(self) -> None:
        self.num_published += 1

    def failed(self, error: ServiceError) -> None:
        self.num_due = 0
        self.error = error


class Counting(FakeEngine):
    """Notes how many streams each call took."""

    def __init__(self) -> None:
        super().__init__()
        self.listened: list[int] = []
        self.stepped: list[int] = []
        self.failing = False
        self.failure: Exception = ZeroDivisionError()

    def listen(self, inputs: Sequence[ListenInput]) -> Sequence[Samples]:
        self.listened.append(len(inputs))
        return super().listen(inputs)

    def step(self, inputs: Sequence[LiveInput]) -> Sequence[LiveOutput]:
        if self.failing:
            raise self.failure
        self.stepped.append(len(inputs))
        return super().step(inputs)


def run_round(streams: Sequence[Scripted], engine: FakeEngine | None = None) -> Round:
    one = Round(streams, streams)
    one.run(engine or Counting(), FakeClock(), LiveLoad())
    return one


@asynccontextmanager
async def scheduling(
    engine: FakeEngine, clock: FakeClock | None = None
) -> AsyncGenerator[LiveScheduler]:
    clock = clock or FakeClock()
    pool = WorkerPool("test", num_threads=1, max_waiting=4, clock=clock)
    metrics = create_metrics(CollectorRegistry())
    scheduler = LiveScheduler(engine, pool, metrics, clock)
    running = asyncio.create_task(scheduler.run(INFO))
    try:
        yield scheduler
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.to_thread(pool.close, timeout_s=PATIENCE_S)


def test_a_round_takes_all_that_is_due_in_one_call_of_gate_and_engine() -> None:
    engine, streams = Counting(), [Scripted() for _ in range(10)]

    run_round(streams, engine)

    assert (engine.listened, engine.stepped) == ([10], [10])
    assert all(stream.num_stepped == stream.num_heard == 1 for stream in streams)


def test_without_work_the_engine_is_not_called() -> None:
    engine = Counting()

    run_round([Scripted(num_due=0)], engine)

    assert engine.stepped == []


def test_finals_go_before_partials_when_not_all_fit() -> None:
    partials = [Scripted() for _ in range(MAX_STEP_STREAMS)]
    finals = [Scripted(ends_next=True) for _ in range(5)]

    run_round([*partials, *finals])

    assert all(stream.num_stepped == 1 for stream in finals)
    assert sum(stream.num_stepped for stream in partials) == MAX_STEP_STREAMS - 5


def test_those_that_waited_longest_go_first() -> None:
    streams = [Scripted() for _ in range(MAX_STEP_STREAMS + 3)]

    run_round(streams)

    assert [stream.num_stepped for stream in streams] == [1] * MAX_STEP_STREAMS + [0] * 3


def test_a_stream_that_is_gone_when_the_round_begins_is_left_out() -> None:
    engine, here, gone = Counting(), Scripted(), Scripted()

    Round([here, gone], [here]).run(engine, FakeClock(), LiveLoad())

    assert engine.stepped == [1]
    assert gone.num_heard == gone.num_stepped == 0


def test_partials_step_back_for_a_final_under_load() -> None:
    load, partial = LiveLoad(), Scripted()
    for _ in range(30):
        load.took(0.2)
    streams = [partial, Scripted(ends_next=True)]

    Round(streams, streams).run(Counting(), FakeClock(), load)

    assert partial.intervals_s == [pytest.approx(MAX_PARTIAL_INTERVAL_S - 0.4, abs=0.01)]


def test_a_step_that_puts_words_off_says_so_and_has_no_latency() -> None:
    engine, streams = SlowlyWriting(1), [Scripted(num_due=2, due_since_s=0.0, ends=True)]

    put_off = Round(streams, streams).run(engine, FakeClock(), LiveLoad())
    done = Round(streams, streams).run(engine, FakeClock(), LiveLoad())

    assert (put_off.goes_on, len(put_off.sample.latencies)) == (True, 0)
    assert (done.goes_on, len(done.sample.latencies)) == (False, 1)


async def test_streams_are_served_until_nothing_is_due() -> None:
    streams = [Scripted(num_due=3), Scripted(num_due=1)]
    async with scheduling(Counting()) as scheduler:
        with scheduler.open(streams[0]), scheduler.open(streams[1]):
            scheduler.wake()
            await until(lambda: streams[0].num_published == 3)

    assert [stream.num_stepped for stream in streams] == [3, 1]
    assert scheduler.num_streams == 0


@pytest.mark.parametrize(("round_s", "pause_s"), [(0.0, TICK_S), (0.005, 0.015), (0.3, 0.0)])
async def test_rounds_begin_a_tick_apart_and_long_ones_follow_at_once(
    round_s: float, pause_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, paused = FakeClock(), list[float]()
    sleep = asyncio.sleep

    async def noting(seconds: float) -> None:
        paused.append(seconds)
        await sleep(0)

    def spend(_: float) -> None:
        clock.now_s += round_s

    monkeypatch.setattr("service.scheduling.live.asyncio.sleep", noting)
    stream = Scripted(num_due=3)
    async with scheduling(FakeEngine(sleep=spend), clock) as scheduler:
        with scheduler.open(stream):
            scheduler.wake()
            while stream.num_published < 3:
                await sleep(0)

    paused = [one for one in paused if one != CONTROL_TICK_S]
    assert paused[:2] == [pytest.approx(pause_s, abs=1e-6)] * 2


async def test_more_streams_than_fit_into_a_step_all_get_their_turn() -> None:
    streams = [Scripted(num_due=4) for _ in range(MAX_STEP_STREAMS + 10)]
    async with scheduling(Counting()) as scheduler:
        with ExitStack() as opened:
            for stream in streams:
                opened.enter_context(scheduler.open(stream))
            scheduler.wake()
            await until(lambda: min(stream.num_stepped for stream in streams) >= 2)
            ahead = max(stream.num_stepped for stream in streams)

    assert ahead <= 4


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ZeroDivisionError(), "engine_failed"),
        (ModelUnusable("expected a model, got none"), ModelUnusable.code),
        (PlanInvalid("expected another plan"), "engine_failed"),  # of one, and the others hear it
    ],
)
async def test_a_round_that_fails_reaches_everybody_in_it_and_the_next_one_runs(
    failure: Exception, code: str
) -> None:
    engine, streams = Counting(), [Scripted() for _ in range(3)]
    engine.failing, engine.failure = True, failure
    async with scheduling(engine) as scheduler:
        with ExitStack() as opened:
            for stream in streams:
                opened.enter_context(scheduler.open(stream))
            scheduler.wake()
            await until(lambda: all(stream.error for stream in streams))
            engine.failing = False
            later = Scripted()
            opened.enter_context(scheduler.open(later))
            scheduler.wake()
            await until(lambda: later.num_stepped)

    assert {stream.error.code for stream in streams if stream.error} == {code}
    assert later.error is None


async def test_streams_outlive_a_controller_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    num_failures = 0

    def failing(*_: object) -> None:
        nonlocal num_failures
        num_failures += 1
        raise ZeroDivisionError

    stream = Scripted()
    async with scheduling(Counting()) as scheduler:
        await until(lambda: scheduler._control.budget is not None)
        with monkeypatch.context() as patch:
            patch.setattr(scheduler._control, "tick", failing)
            await until(lambda: num_failures > 1)
            with scheduler.open(stream):
                scheduler.wake()
                await until(lambda: stream.num_stepped)
        await until(lambda: "the controller works again" in caplog.text)

    assert stream.error is None
    assert caplog.text.count("the controller failed") == 1


async def test_what_was_put_off_is_asked_for_again_without_news() -> None:
    patient = Scripted(num_due=0, waits=True)
    async with scheduling(Counting()) as scheduler:
        with scheduler.open(patient):
            scheduler.wake()
            await until(lambda: patient.num_published >= 2)

    assert patient.num_published >= 2


async def test_live_rounds_go_before_files_on_the_engine_thread() -> None:
    order: list[str] = []
    pool = WorkerPool("test", num_threads=1, max_waiting=8, clock=FakeClock())
    blocked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first() -> None:
        asyncio.run_coroutine_threadsafe(blocked.wait(), loop).result(PATIENCE_S)

    jobs = [pool.submit("a", first)]
    jobs += [pool.submit(name, lambda: order.append("file")) for name in ("a", "b", "c")]
    jobs += [pool.submit("live", lambda: order.append("live"), urgent=True)]
    blocked.set()
    await asyncio.gather(*jobs)
    await asyncio.to_thread(pool.close, timeout_s=PATIENCE_S)

    assert order == ["live", "file", "file", "file"]


def test_a_calm_service_decodes_every_chunk_and_has_room_for_second_passes() -> None:
    load = LiveLoad()
    load.took(CALM_ROUND_S / 2)

    assert load.partial_interval_s == 0.0
    assert load.least_doubt == 0.0


@pytest.mark.parametrize("strained", [False, True])
@pytest.mark.parametrize("round_s", [0.21, 0.4, 5.0])
def test_a_busy_one_gives_up_second_passes_first_and_partials_never_altogether(
    round_s: float, *, strained: bool
) -> None:
    load = LiveLoad()
    load.strained = strained
    for _ in range(50):
        load.took(round_s)

    assert load.least_doubt == math.inf
    assert 0 <= load.partial_interval_s <= max(0, MAX_PARTIAL_INTERVAL_S - 2 * load.mean_round_s)


def test_one_long_round_is_soon_forgotten() -> None:
    load = LiveLoad()
    load.took(0.4)
    for _ in range(10):
        load.took(0.01)

    assert load.least_doubt == 0.0


def test_in_between_second_passes_leave_the_surest_first() -> None:
    load, asked = LiveLoad(), list[float]()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        for _ in range(50):
            load.took(CALM_ROUND_S + share * (FULL_ROUND_S - CALM_ROUND_S))
        asked.append(load.least_doubt)

    assert asked == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=1e-3)
    load.strained = True
    assert load.least_doubt == math.inf
