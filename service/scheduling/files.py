"""The way of a file through the service: a place, windows as they are decoded, steps, a transcript.

decoding threads:  |w1 w2|  |w3 w4|  |w5 w6|            one batch ahead of the engine, no more
engine thread:              |  w1 w2  |other|  w3 w4  |  one batch in the queue for each file, and
                                                          what waits together is run together
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

from service.engine.base import DepthChoice, Engine, ModelInfo, PlanInUse
from service.errors import Loading, RequestTimedOut
from service.metrics import Metrics
from service.scheduling.admission import LOADING_RETRY_S, Admission
from service.scheduling.clock import Clock
from service.scheduling.depth import DropDecider, chosen_plan, deepest
from service.scheduling.load_control import LoadControl
from service.scheduling.measures import Measures
from service.scheduling.steps import FileSteps
from service.scheduling.transcripts import Transcript, TranscriptBuilder
from service.scheduling.windows import WindowBatch, WindowReader
from service.scheduling.workers import WorkerPool

Progress = Callable[[float], None]
"""Told the seconds of audio that are transcribed, after each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the service takes on at once.

    Args:
        max_requests: files in work at once.
        max_audio_s: decoded length of a file.
        max_request_s: time a file may be in work.
        batch_windows: windows of one engine step, of one file or of several.
        decode_threads: uploads decoded at once.
        max_streams: live streams beside them.
    """

    max_requests: int
    max_audio_s: float
    max_request_s: float
    batch_windows: int
    decode_threads: int
    max_streams: int = 1


def limits_of_own_files(batch_windows: int, *, max_requests: int = 1) -> Limits:
    """Give the limits of a program that transcribes files for who started it: they may be long.

    The server's limits protect it from strangers; a file of one's own may be of any length.
    """
    return Limits(
        max_requests=max_requests,
        max_audio_s=math.inf,
        max_request_s=math.inf,
        batch_windows=batch_windows,
        decode_threads=1,
    )


@dataclass(frozen=True, slots=True)
class Share:
    """The steps of a file that are run here, where others run the rest: every `of`-th, from `part`.

    Who has a share cuts the whole file as everybody does, so each step is what it would be alone.
    """

    part: int = 0
    of: int = 1

    def takes(self, step: int) -> bool:
        """Say whether a step, counted from 0, is run here."""
        return step % self.of == self.part


WHOLE_FILE = Share()


class Transcriber:
    """Transcribes files side by side on one engine.

    Args:
        engine: not loaded yet.
        metrics: counts steps and files.
        clock: measures them.
        limits: what is taken on at once.
        control: what `drop=auto` means, and whether the load leaves room for more; without one,
            full depth and always.
    """

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        clock: Clock,
        limits: Limits,
        control: LoadControl | None = None,
    ) -> None:
        self.engine = engine
        self._clock = clock
        self._limits = limits
        self.decide: DropDecider = deepest if control is None else control.decide
        self._measures = Measures(metrics)
        self._info: ModelInfo | None = None
        self.admission = Admission(
            limits.max_requests,
            clock,
            max_streams=limits.max_streams,
            refuses_streams=control.refuses_streams if control else lambda: False,
            refuses_requests=control.refuses_files if control else lambda: False,
        )
        if control is not None:
            control.num_places_taken = lambda: self.admission.streams.num_taken
        # Each file has at most one step and two decodings waiting, so neither queue overflows.
        self.steps = WorkerPool(
            "engine", num_threads=1, max_waiting=limits.max_requests + 1, clock=clock
        )
        self._file_steps = FileSteps(
            self.steps,
            engine,
            most_windows=self._batch_windows,
            clock=clock,
        )
        self._decoders = WorkerPool(
            "decoder",
            num_threads=limits.decode_threads,
            max_waiting=2 * limits.max_requests,
            clock=clock,
        )
        metrics.process.queue_depth.set_function(lambda: self.steps.num_waiting)

    @property
    def info(self) -> ModelInfo:
        """What is served.

        Raises:
            Loading: the model is not loaded.
        """
        if self._info is None:
            raise Loading("the model is not loaded", retry_after_s=LOADING_RETRY_S)
        return self._info

    @property
    def num_waiting_steps(self) -> int:
        """Steps that wait for the engine."""
        return self.steps.num_waiting

    async def load(self) -> ModelInfo:
        """Load the model on the engine's thread and open the door.

        Raises:
            ModelUnusable: it cannot be loaded.
            EngineFailed: loading failed in a way nobody foresaw.
        """
        try:
            self._info = (await self.steps.submit(self, self.engine.load)).value
        except Exception:
            self.admission.load_failed()
            raise
        self.admission.loaded()
        return self._info

    def plan_for(self, choice: DepthChoice) -> PlanInUse:
        """Choose the plan that a request will run at.

        Raises:
            DepthError: the depth asked for is not on offer.
        """
        return chosen_plan(choice, self.engine.choose, self.decide)

    async def transcribe(
        self,
        source: BinaryIO,
        choice: DepthChoice,
        *,
        endpoint: str,
        on_progress: Progress = lambda _audio_s: None,
        hotwords: tuple[str, ...] = (),
        share: Share = WHOLE_FILE,
    ) -> Transcript:
        """Transcribe a file; cancelling takes its work out of every queue.

        Args:
            source: the file, seekable, from its beginning.
            choice: the depth asked for.
            endpoint: who asks, for metrics.
            on_progress: told after each step, on the event loop.
            hotwords: words that may come in it.
            share: of its steps; words and cost are of these alone.

        Raises:
            CallerError: the audio or the depth is at fault.
            Overloaded: no place is free.
            RequestTimedOut: it took longer than any request may.
            EngineFailed: a step failed.
        """
        started_s = self._clock()
        plan = self.plan_for(choice)
        builder = TranscriptBuilder(self.info.name, plan, choice.policy)
        with self.admission.work():
            try:
                async with asyncio.timeout(self._limits.max_request_s):
                    await self._run(source, builder, on_progress, hotwords, share)
            except TimeoutError as error:
                limit_s = self._limits.max_request_s
                raise RequestTimedOut(
                    f"expected an answer within {limit_s:g} s, got none"
                ) from error
        transcript = builder.build(total_s=self._clock() - started_s)
        self._measures.finished(self.info.depth_label(plan), endpoint, transcript)
        return transcript

    async def close(self, *, timeout_s: float) -> None:
        """Let the threads end, waiting so long for steps under way."""
        await asyncio.to_thread(self._decoders.close, timeout_s=timeout_s)
        await asyncio.to_thread(self.steps.close, timeout_s=timeout_s)

    async def _run(
        self,
        source: BinaryIO,
        builder: TranscriptBuilder,
        on_progress: Progress,
        hotwords: tuple[str, ...],
        share: Share,
    ) -> None:
        owner = object()
        reader = WindowReader(
            self._decoders,
            owner,
            lambda: self.engine.open_windows(source, max_s=self._limits.max_audio_s),
            batch_windows=self._batch_windows,
            clock=self._clock,
        )
        following: asyncio.Task[WindowBatch] | None = None
        num_steps = 0
        try:
            batch = await reader.next_batch()
            while batch.windows:
                following = asyncio.create_task(reader.next_batch())
                if share.takes(num_steps):
                    await self._step(owner, batch, builder, hotwords)
                else:
                    builder.pass_over(batch.windows)
                num_steps += 1
                on_progress(builder.audio_s)
                batch = await following
        finally:
            reader.close()
            if following is not None:
                following.cancel()
                # Waited for, so that what it raised does not go unheard.
                await asyncio.gather(following, return_exceptions=True)

    def _batch_windows(self) -> int:
        # A step cannot be interrupted: beside live streams it takes one window, whatever that costs.
        return 1 if self.admission.streams.num_taken else self._limits.batch_windows

    async def _step(
        self,
        owner: object,
        batch: WindowBatch,
        builder: TranscriptBuilder,
        hotwords: tuple[str, ...],
    ) -> None:
        plan, windows = builder.plan, batch.windows
        if hotwords:
            windows = [replace(window, hotwords=hotwords) for window in windows]
        done = await self._file_steps.run(owner, windows, plan)
        builder.add(batch.windows, done.result, done.wait_s)
        builder.audio_decode_s += batch.took_s
        self._measures.stepped(self.info.depth_label(plan), batch, done)
