"""All live streams on the one engine thread, in rounds.

A round takes everything that is due, of all streams, in one call of the gate and one of the engine:

    bytes ->| collect |-> engine.listen -> | heard | due |-> engine.step -> | stepped |-> publish
             each stream   all at once       each stream      all at once     each stream   event loop

What waits longer waits inside its stream, where new audio joins it: there is never more than one
partial of a stream to come. Nothing is queued here, so nothing here can grow.
"""

import asyncio
import logging
from collections.abc import Container, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import numpy as np

from service.engine.base import (
    SAMPLE_RATE_HZ,
    Engine,
    ListenInput,
    LiveInput,
    LiveOutput,
    ModelInfo,
    Samples,
)
from service.errors import CallerError, Draining, EngineFailed, ServiceError
from service.metrics import Metrics
from service.scheduling.clock import Clock
from service.scheduling.live_load import LiveLoad
from service.scheduling.load_control import TICK_S as CONTROL_TICK_S
from service.scheduling.load_control import LoadControl, StreamDial
from service.scheduling.load_window import RoundSample
from service.scheduling.workers import WorkerPool

logger = logging.getLogger(__name__)

TICK_S = 0.02
"""Least time from one round's beginning to the next one's; packets of several streams come together
in it. A longer round lets them come together by itself."""
MAX_STEP_STREAMS = 64
"""Of one step; beyond, somebody's final would wait for everybody's partials."""
PATIENCE_S = 0.25
"""Time after which a stream that put its words off is asked again, news or no news."""


class LiveStream(Protocol):
    """One stream as the scheduler sees it.

    All but `publish`, `failed` and the properties are called on the engine's thread, within a
    round; those on the event loop, between rounds.
    """

    @property
    def has_news(self) -> bool:
        """Whether a round would find something to do."""
        ...

    @property
    def waits(self) -> bool:
        """Whether it has put something off that time alone makes due."""
        ...

    @property
    def ends_next(self) -> bool:
        """Whether the next step makes a final."""
        ...

    @property
    def state_bytes(self) -> int:
        """Bytes of the engine's caches."""
        ...

    @property
    def dial(self) -> StreamDial:
        """Its depth."""
        ...

    @property
    def due_since_s(self) -> float | None:
        """When the audio was there that the last input takes; None if that brings none."""
        ...

    def collect(self, now_s: float) -> ListenInput | None:
        """Take what came in; give it to the gate, if it is audio."""
        ...

    def heard(self, probabilities: Samples, now_s: float) -> None:
        """Take what the gate says; empty, if it was not asked."""
        ...

    def due(self, now_s: float, load: LiveLoad) -> LiveInput | None:
        """Give what the encoder should take now; in this round it will."""
        ...

    def stepped(self, output: LiveOutput, now_s: float) -> None:
        """Take what the engine made of that."""
        ...

    def publish(self) -> None:
        """Hand on to the client what there is to tell."""
        ...

    def failed(self, error: ServiceError) -> None:
        """Learn that a round could not be brought to its end."""
        ...


@dataclass(slots=True)
class Round:
    """One round of streams, those first that have waited longest, and whom it took a step for.

    Args:
        streams: that have something to do.
        still_open: those whose client is there; the others are left out once the round begins.
    """

    streams: Sequence[LiveStream]
    still_open: Container[LiveStream]
    stepped: list[LiveStream] = field(default_factory=list[LiveStream])

    def run(self, engine: Engine, clock: Clock, load: LiveLoad) -> "RoundReport":
        """Do the round; on the engine's thread."""
        began_s = clock()
        self.streams = [stream for stream in self.streams if stream in self.still_open]
        self._listen(engine, clock)
        listened_s = clock()
        work = list(self._choose(clock, load))
        outputs: Sequence[LiveOutput] = ()
        if work:
            outputs = engine.step([one for _, one in work])
            assert len(outputs) == len(work), "an engine answers every input"
        waits = [(stream, stream.due_since_s) for stream, _ in work]
        for (stream, _), output in zip(work, outputs, strict=True):
            stream.stepped(output, clock())
        inputs, ended_s = tuple(one for _, one in work), clock()
        latencies = tuple(
            (stream, ended_s - since_s)
            for (stream, since_s), output in zip(waits, outputs, strict=True)
            if since_s is not None and output.done
        )
        audio_s = sum(len(one.samples) for one in inputs) / SAMPLE_RATE_HZ
        layer_s = sum(len(one.samples) * one.plan.effective_layers for one in inputs)
        layers = layer_s / SAMPLE_RATE_HZ / audio_s if audio_s else 0.0
        sample = RoundSample(began_s, ended_s, latencies, audio_s, layers)
        return RoundReport(inputs, tuple(outputs), listened_s - began_s, sample)

    def _choose(self, clock: Clock, load: LiveLoad) -> Generator[tuple[LiveStream, LiveInput]]:
        # Finals first; within both, those that have waited longest, as the scheduler lists them.
        num_left = MAX_STEP_STREAMS
        load.finals_due = any(stream.ends_next for stream in self.streams)
        for stream in sorted(self.streams, key=lambda one: not one.ends_next):
            one = stream.due(clock(), load) if num_left else None
            if one is not None:
                num_left -= 1
                self.stepped.append(stream)
                yield stream, one

    def _listen(self, engine: Engine, clock: Clock) -> None:
        now_s = clock()
        asked = [(stream, stream.collect(now_s)) for stream in self.streams]
        inputs = [one for _, one in asked if one is not None]
        answers = iter(engine.listen(inputs) if inputs else ())
        for stream, one in asked:
            stream.heard(next(answers) if one is not None else np.zeros(0, np.float32), clock())


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What a round ran, and the time it took."""

    inputs: tuple[LiveInput, ...]
    outputs: tuple[LiveOutput, ...]
    listen_s: float
    sample: RoundSample

    @property
    def goes_on(self) -> bool:
        """Whether words are under way that the next round is asked for at once."""
        return not all(output.done for output in self.outputs)


class LiveScheduler:
    """Runs rounds while there is something to do.

    Args:
        engine: loaded before the first stream is opened.
        pool: of the engine's one thread; shared with files, which give way.
        metrics: counts steps.
        clock: measures them.
        control: told what rounds take; without one, nothing is given up but second passes and
            partials.
    """

    def __init__(
        self,
        engine: Engine,
        pool: WorkerPool,
        metrics: Metrics,
        clock: Clock,
        control: LoadControl | None = None,
    ) -> None:
        self._engine = engine
        self._pool = pool
        self._metrics = metrics
        self._clock = clock
        self._control = control or LoadControl(metrics, clock)
        self._streams: dict[LiveStream, None] = {}
        self._news = asyncio.Event()

    @property
    def num_streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    @property
    def dials(self) -> list[StreamDial]:
        """The depth of each of them."""
        return [one.dial for one in self._streams]

    @contextmanager
    def open(self, stream: LiveStream) -> Generator[None]:
        """Let a stream take part; at the end it is forgotten with all that was due."""
        self._streams[stream] = None
        try:
            yield
        finally:
            self._streams.pop(stream, None)

    def wake(self) -> None:
        """Say that something came in."""
        self._news.set()

    async def run(self, info: ModelInfo) -> None:
        """Run rounds and the controller until cancelled, or the engine's thread takes no more."""
        self._control.loaded(info)
        controlling = asyncio.create_task(self._control_depth())
        try:
            with suppress(Draining):
                while True:
                    await self._wait()
                    began_s = self._clock()
                    goes_on = await self._round(info)
                    left_s = TICK_S - (self._clock() - began_s)
                    await asyncio.sleep(0 if goes_on else max(0.0, left_s))
        finally:
            controlling.cancel()
            await asyncio.gather(controlling, return_exceptions=True)

    async def _control_depth(self) -> NoReturn:
        failing = False
        while True:
            # The pool's queue holds files alone, but for a round that waits.
            num_files = self._pool.num_waiting - self._control.round_waits
            try:
                self._control.tick(self.dials, max(0, num_files))
            # Streams go on at the depth they have, whatever is wrong with the controller.
            except Exception:
                if not failing:  # said once, and not four times a second
                    logger.exception("the controller failed; the depth stays as it is")
                failing = True
            else:
                if failing:
                    logger.warning("the controller works again")
                failing = False
            await asyncio.sleep(CONTROL_TICK_S)

    async def _wait(self) -> None:
        if any(stream.has_news for stream in self._streams):
            return
        self._news.clear()
        patient = any(stream.waits for stream in self._streams)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S if patient else None):
                await self._news.wait()

    async def _round(self, info: ModelInfo) -> bool:
        """Run a round; give whether the next one should follow at once."""
        taking = [one for one in self._streams if one.has_news or one.waits]
        if not taking:
            return False
        goes_on = False
        current, control = Round(taking, self._streams), self._control
        control.submitted()
        try:
            done = await self._pool.submit(
                self, lambda: current.run(self._engine, self._clock, control.load), urgent=True
            )
        except Draining:
            raise
        except ServiceError as error:
            control.done()
            ours = error
            if isinstance(error, CallerError):  # whoever of them asked: the others did no wrong
                logger.exception("a round of %d streams asked for what is not served", len(taking))
                ours = EngineFailed("the engine failed")
            for stream in taking:
                stream.failed(ours)
        else:
            control.done(done.value.sample)
            self._measure(info, done.wait_s, done.value)
            goes_on = done.value.goes_on
        for stream in taking:
            stream.publish()
        for stream in current.stepped:
            if stream in self._streams:  # to the back: the others have waited longer
                self._streams[stream] = self._streams.pop(stream)
        self._metrics.streams.state_bytes.set(sum(one.state_bytes for one in self._streams))
        return goes_on

    def _measure(self, info: ModelInfo, wait_s: float, report: RoundReport) -> None:
        steps = self._metrics.steps
        steps.queue_wait.observe(wait_s)
        if not report.inputs:
            return
        depths = [info.depth_label(one.plan) for one in report.inputs]
        for depth in set(depths):
            costs = [
                out.cost for out, at in zip(report.outputs, depths, strict=True) if at == depth
            ]
            steps.batch_size.labels(depth).observe(len(costs))
            encode_s, decode_s = (
                sum(cost.encode_s for cost in costs),
                sum(cost.decode_s for cost in costs),
            )
            steps.stage_duration.labels("encode", depth).observe(encode_s)
            steps.stage_duration.labels("decode", depth).observe(decode_s)
        steps.stage_duration.labels("listen", "all").observe(report.listen_s)
