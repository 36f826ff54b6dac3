"""One replica: the service's scheduler, controller, door and sessions around a simulated engine.

Nothing of the service is rewritten for this, sessions included: a lighter stream was tried on
paper and would simulate some three times as many of them, but it would be a second account of
endpointing, feeding and lag that has to be kept equal to the first. What is left out is what
surrounds them: sockets, dialects, keys, JSON. Packets of silence stand for speech and the
gate hears what was drawn, so nothing is decoded or resampled.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import cast

from prometheus_client import CollectorRegistry

from benchmarks.simulator.clients import PACKET, PACKET_S, Reader, Speaker
from benchmarks.simulator.engine import SimulatedEngine
from benchmarks.simulator.model_card import ModelCard
from benchmarks.simulator.policies import Policy
from benchmarks.simulator.scores import Sample, Scores, ScoringMeasures
from benchmarks.simulator.service_times import ServiceTimes
from benchmarks.simulator.speech import Manner, drawn_speech
from benchmarks.simulator.traces import Arrival
from benchmarks.simulator.virtual_time import VirtualWorker
from service.engine.base import AUTO, Samples
from service.errors import Overloaded, ServiceError
from service.fleet.reports import ReplicaReport
from service.metrics import create_metrics
from service.scheduling.admission import Places
from service.scheduling.clock import Clock
from service.scheduling.live import LiveScheduler
from service.scheduling.load_control import LoadControl
from service.scheduling.workers import WorkerPool
from service.streaming.commands import StreamConfig
from service.streaming.inbox import Inbox
from service.streaming.session import Backing, Session

BUFFER_S = 10.0
"""Audio of a stream that may wait, as the service's setting has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """What all replicas share.

    Args:
        policy: sets the depth.
        max_streams: places of a replica.
        two_pass: whether finals are heard twice where there is room.
        manner: how everybody speaks.
    """

    card: ModelCard
    times: ServiceTimes
    policy: Policy
    max_streams: int
    two_pass: bool = True
    manner: Manner = field(default_factory=Manner)


class Replica:
    """One process of the service.

    Args:
        number: from 0.
        config: shared.
        scores: gathers what happens.
        clock: of the loop.
        seed: of its engine.
    """

    def __init__(
        self, number: int, config: ReplicaConfig, scores: Scores, clock: Clock, seed: int
    ) -> None:
        self.number = number
        self.draining = False
        self._config = config
        self._scores = scores
        self._clock = clock
        self._worker = VirtualWorker(clock)
        self._engine = SimulatedEngine(
            config.card, config.times, self._worker.spend, lambda: self.num_streams, seed
        )
        self._info = self._engine.load()
        metrics = create_metrics(CollectorRegistry())
        # The worker has what the scheduler uses of a pool, and no threads of its own beside one.
        pool = cast("WorkerPool", self._worker)
        self._control = control = LoadControl(metrics, clock, config.policy.control)
        self.places = Places(config.max_streams, clock, control.refuses_streams)
        control.num_places_taken = lambda: self.places.num_taken
        self._scheduler = LiveScheduler(self._engine, pool, metrics, clock, self._control)
        self._measures = ScoringMeasures(metrics, self._info, scores)
        self._layers = self.layers
        self._busy_before_s = 0.0

    @property
    def num_streams(self) -> int:
        """Streams that speak now."""
        return self._scheduler.num_streams

    @property
    def layers(self) -> float:
        """Effective layers that a stream would run at now."""
        choice = self._config.policy.choice
        drop = self._control.decide() if choice.drop == AUTO else choice.drop
        return self._engine.choose(drop, None, choice.policy).effective_layers

    def report(self) -> ReplicaReport:
        """Say what a member of a fleet says of itself."""
        reading = self._control.window.read(self._clock())
        num_streams = self.places.num_taken
        return ReplicaReport(
            rank=self.number,
            weight=num_streams,
            streams=num_streams,
            depth_debt=self._control.decide(),
            lag_s=reading.latency_s,
            busy_ratio=reading.busy_ratio,
            open=not self.draining and not self.places.full,
        )

    def take(self, arrival: Arrival, add: Callable[[Speaker], None]) -> bool:
        """Let a client in and have it speak, or refuse it."""
        speech = drawn_speech(arrival.duration_s, arrival.seed, self._config.manner)
        speaker = self.take_speech(arrival.duration_s, speech, lambda: None)
        if speaker is None:
            self._scores.num_refused += 1
            return False
        self._scores.offered_s += arrival.duration_s
        add(speaker)
        return True

    def take_speech(
        self, duration_s: float, speech: Samples, on_end: Callable[[], None]
    ) -> Speaker | None:
        """Let a client in, or refuse it.

        Args:
            duration_s: it speaks for so long.
            speech: what the gate will hear.
            on_end: called when it has its last final.

        Returns:
            the client, who is silent until a metronome beats for it; None if it was refused.
        """
        place = ExitStack()
        try:
            place.enter_context(self.places.hold())
        except Overloaded:
            return None
        self._scores.num_begun += 1
        self._engine.next_speech = speech
        inbox = Inbox(round(BUFFER_S / PACKET_S) * len(PACKET))

        def ended(error: ServiceError | None) -> None:
            self._scores.num_ended += 1
            self._scores.num_failed += error is not None
            speaker.leave()
            on_end()

        backing = Backing(
            self._engine, self._info, self._control.decide, self._measures, self._config.two_pass
        )
        session = Session(
            StreamConfig(choice=self._config.policy.choice), inbox, Reader(ended), backing
        )
        speaker = Speaker(duration_s, inbox, self._scheduler.wake, place, self._clock)
        place.enter_context(self._scheduler.open(session))
        return speaker

    async def run(self) -> None:
        """Run rounds and the controller until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._scheduler.run(self._info))
        finally:
            self._worker.close()

    def watch(self, every_s: float) -> Sample:
        """Say how it is, once in so many seconds."""
        busy_s, self._busy_before_s = (
            self._worker.busy_s - self._busy_before_s,
            self._worker.busy_s,
        )
        layers = self.layers
        if layers != self._layers:
            self._layers = layers
            self._scores.changes.append((self._clock(), self.number))
        sample = Sample(
            round(self._clock(), 3), self.number, self.num_streams, layers, busy_s / every_s
        )
        self._scores.samples.append(sample)
        return sample


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancel and wait."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
