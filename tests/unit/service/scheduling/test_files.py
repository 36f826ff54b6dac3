import asyncio
import io
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

import pytest
from prometheus_client import CollectorRegistry

from service.engine.base import DepthChoice, Window
from service.engine.fake import FakeEngine
from service.errors import (
    AudioTooLong,
    EngineFailed,
    Loading,
    ModelUnusable,
    Overloaded,
    RequestTimedOut,
)
from service.metrics import create_metrics
from service.scheduling.admission import Phase
from service.scheduling.files import Limits, Transcriber
from service.scheduling.transcripts import Transcript
from tests.service_kit import PATIENCE_S, FakeClock, Turnstile, until, wav_bytes


@asynccontextmanager
async def transcriber_on(
    engine: FakeEngine, *, load: bool = True, **changes: Any
) -> AsyncGenerator[Transcriber]:
    limits: dict[str, Any] = {
        "max_requests": 8,
        "max_audio_s": 3600.0,
        "max_request_s": 3600.0,
        "batch_windows": 1,
        "decode_threads": 2,
    }
    transcriber = Transcriber(
        engine, create_metrics(CollectorRegistry()), FakeClock(), Limits(**(limits | changes))
    )
    try:
        if load:
            await transcriber.load()
        yield transcriber
    finally:
        await transcriber.close(timeout_s=PATIENCE_S)


def start(transcriber: Transcriber, audio_s: float, **how: Any) -> asyncio.Task[Transcript]:
    source = io.BytesIO(wav_bytes(audio_s))
    work = transcriber.transcribe(source, DepthChoice(), endpoint="test", **how)
    return asyncio.ensure_future(work)


class CountingEngine(FakeEngine):
    """Counts windows that are decoded and not yet transcribed."""

    def __init__(self) -> None:
        super().__init__(before_step=self._step)
        self.num_decoded = 0
        self.num_transcribed = 0
        self.most_ahead = 0

    def open_windows(self, source: BinaryIO, *, max_s: float) -> Generator[Window]:
        for window in super().open_windows(source, max_s=max_s):
            self.num_decoded += 1
            self.most_ahead = max(self.most_ahead, self.num_decoded - self.num_transcribed)
            yield window

    def _step(self, windows: Any, _plan: Any) -> None:
        self.num_transcribed += len(windows)


async def test_a_short_file_does_not_wait_for_a_long_one_to_end() -> None:
    turnstile = Turnstile()
    async with transcriber_on(FakeEngine(before_step=turnstile)) as transcriber:
        long = start(transcriber, 80.0)
        await turnstile.wait_for_step(1)
        short = start(transcriber, 4.0)
        await until(lambda: transcriber.num_waiting_steps == 1)

        turnstile.let_through(2)
        transcript = await short

        assert transcript.audio_s == 4.0
        assert not long.done()
        turnstile.let_through(100)
        assert (await long).audio_s == 80.0


async def test_decoding_runs_one_batch_ahead_and_no_more() -> None:
    engine = CountingEngine()
    async with transcriber_on(engine, batch_windows=2) as transcriber:
        await start(transcriber, 400.0)

    assert engine.num_decoded == 50
    assert engine.most_ahead <= 3 * 2


async def test_cancelling_takes_the_work_out_and_frees_the_place() -> None:
    turnstile = Turnstile()
    async with transcriber_on(FakeEngine(before_step=turnstile), max_requests=2) as transcriber:
        first = start(transcriber, 80.0)
        await turnstile.wait_for_step(1)
        second = start(transcriber, 80.0)
        await until(lambda: transcriber.num_waiting_steps == 1)

        second.cancel()
        await asyncio.wait([second])

        assert transcriber.num_waiting_steps == 0
        assert not transcriber.admission.saturated
        first.cancel()
        await asyncio.wait([first])
        turnstile.let_through(1)
        after = start(transcriber, 4.0)
        turnstile.let_through(1)
        assert (await after).audio_s == 4.0
    assert sum(len(step) for step in turnstile.started) == 2


async def test_a_file_beyond_the_places_is_refused() -> None:
    turnstile = Turnstile()
    async with transcriber_on(FakeEngine(before_step=turnstile), max_requests=1) as transcriber:
        first = start(transcriber, 4.0)
        await turnstile.wait_for_step(1)

        with pytest.raises(Overloaded):
            await start(transcriber, 4.0)

        turnstile.let_through(1)
        await first


async def test_a_step_that_raises_fails_its_file_and_nobody_elses() -> None:
    def fail_on_second_window(windows: Any, _plan: Any) -> None:
        if windows[0].start_s == 8.0:
            raise ZeroDivisionError

    async with transcriber_on(FakeEngine(before_step=fail_on_second_window)) as transcriber:
        long, short = start(transcriber, 20.0), start(transcriber, 4.0)

        with pytest.raises(EngineFailed):
            await long

        assert (await short).audio_s == 4.0


async def test_audio_beyond_the_cap_is_refused_while_it_is_decoded() -> None:
    engine = CountingEngine()
    async with transcriber_on(engine, max_audio_s=20.0) as transcriber:
        with pytest.raises(AudioTooLong):
            await start(transcriber, 400.0)

    assert engine.num_decoded <= 3


async def test_a_file_that_takes_too_long_is_given_up() -> None:
    turnstile = Turnstile()
    engine = FakeEngine(before_step=turnstile)
    async with transcriber_on(engine, max_request_s=1e-3) as transcriber:
        with pytest.raises(RequestTimedOut, match=r"within 0\.001 s"):
            await start(transcriber, 80.0)
        turnstile.let_through(1)


async def test_progress_is_told_after_each_step() -> None:
    seen: list[float] = []
    async with transcriber_on(FakeEngine()) as transcriber:
        await start(transcriber, 20.0, on_progress=seen.append)

    assert seen == [8.0, 16.0, 20.0]


async def test_nothing_is_known_before_the_model_is_loaded() -> None:
    async with transcriber_on(FakeEngine(), load=False) as transcriber:
        with pytest.raises(Loading):
            _ = transcriber.info


async def test_a_model_that_cannot_be_loaded_leaves_the_door_shut() -> None:
    def fail() -> None:
        raise ModelUnusable("no such model")

    async with transcriber_on(FakeEngine(before_load=fail), load=False) as transcriber:
        with pytest.raises(ModelUnusable):
            await transcriber.load()

        assert transcriber.admission.phase is Phase.FAILED
