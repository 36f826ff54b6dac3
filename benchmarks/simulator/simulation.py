"""One simulated run: a load, some replicas, a policy; what it came to."""

import asyncio
from dataclasses import dataclass, field

from benchmarks.simulator.clients import Metronome
from benchmarks.simulator.fleet import SYNC_S, Autoscaler, Router, RouterName, ScalingRule
from benchmarks.simulator.replica import Replica, ReplicaConfig, stopped
from benchmarks.simulator.scores import Sample, Scores
from benchmarks.simulator.traces import Trace
from benchmarks.simulator.virtual_time import run_virtually

WATCH_S = 1.0
CLOSING_S = 60.0
"""Streams have so long for their last finals; the rest counts as lost."""
SEED_STEP = 7919


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """The replicas of a run.

    Args:
        replica: what they share.
        replicas: at the beginning, and the least an autoscaler leaves.
        router: who gets the next stream.
        scaling: whether their number follows the load.
        seed: of their engines.
    """

    replica: ReplicaConfig
    replicas: int = 1
    router: RouterName = "least-streams"
    scaling: ScalingRule = field(default_factory=ScalingRule)
    seed: int = 0


def simulate(trace: Trace, config: FleetConfig) -> Scores:
    """Run a load to its end; equal arguments give equal scores."""
    return run_virtually(_Run(trace, config).play())


class _Run:
    def __init__(self, trace: Trace, config: FleetConfig) -> None:
        self._trace = trace
        self._config = config
        self._scores = Scores()
        self._router = Router(config.router)
        full = config.replica.card.full.layers_total
        self._scaler = Autoscaler(config.scaling, config.replicas, full)
        self._replicas: dict[Replica, asyncio.Task[None]] = {}
        self._num_made = self._num_starting = 0
        self._metronome = Metronome()

    async def play(self) -> Scores:
        """Let everybody come and go."""
        for _ in range(self._config.replicas):
            self._start()
        background = [
            asyncio.create_task(self._metronome.run()),
            asyncio.create_task(self._watch()),
        ]
        loop = asyncio.get_running_loop()
        for arrival in self._trace.arrivals:
            await asyncio.sleep(max(0.0, arrival.at_s - loop.time()))
            self._router.choose(list(self._replicas)).take(arrival, self._metronome.add)
        await self._until_empty()
        for task in [*background, *self._replicas.values()]:
            await stopped(task)
        return self._scores

    async def _until_empty(self) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = self._trace.end_s + CLOSING_S
        while self._scores.num_ended < self._scores.num_begun:
            if loop.time() > deadline_s:
                return
            await asyncio.sleep(WATCH_S)

    def _start(self) -> None:
        number, self._num_made = self._num_made, self._num_made + 1
        clock = asyncio.get_running_loop().time
        seed = self._config.seed * SEED_STEP + number
        replica = Replica(number, self._config.replica, self._scores, clock, seed)
        self._replicas[replica] = asyncio.create_task(replica.run())

    async def _watch(self) -> None:
        seconds, recent = 0, list[Sample]()
        while True:
            await asyncio.sleep(WATCH_S)
            seconds += 1
            for replica in list(self._replicas):
                recent.append(replica.watch(WATCH_S))
                if replica.draining and not replica.num_streams:
                    await stopped(self._replicas.pop(replica))
            if seconds % SYNC_S == 0:
                self._scale(recent)
                recent = []

    def _scale(self, recent: list[Sample]) -> None:
        loop = asyncio.get_running_loop()
        there = [replica for replica in self._replicas if not replica.draining]
        num = len(there) + self._num_starting
        wanted = self._scaler.wanted(loop.time(), num, recent)
        for _ in range(wanted - num):
            self._num_starting += 1
            loop.call_later(self._config.scaling.start_s, self._started)
        there.sort(key=lambda replica: (replica.num_streams, -replica.number))
        for replica in there[: max(0, len(there) - max(wanted, 1))]:
            replica.draining = True

    def _started(self) -> None:
        self._num_starting -= 1
        self._start()
