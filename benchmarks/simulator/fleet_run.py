"""A fleet on virtual time: the scaling law, the router and the law of moves are the service's own.

    arrivals --(by_load)--> replicas, each with its controller and door --> reports, once a second
                              ^       |                                        |
            moves at pauses --'       '-- streams asked by Balance      decide(): replicas

`benchmarks.simulator.simulation` has the Kubernetes autoscaler instead, and clients that go away.
"""

import asyncio
from dataclasses import dataclass

from benchmarks.simulator.clients import Metronome
from benchmarks.simulator.fleet_client import FleetClient
from benchmarks.simulator.fleet_scores import FleetScores, Moment
from benchmarks.simulator.replica import Replica, ReplicaConfig, stopped
from benchmarks.simulator.scores import Scores
from benchmarks.simulator.simulation import CLOSING_S, SEED_STEP, WATCH_S
from benchmarks.simulator.speech import drawn_speech
from benchmarks.simulator.traces import Trace
from benchmarks.simulator.virtual_time import run_virtually
from service.fleet.balance import Balance
from service.fleet.picking import by_load
from service.fleet.scaling import FleetReading, ScalingRule, ScalingState, decide
from service.fleet.view import Member
from service.scheduling.moves import those_to_move


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """A fleet and what it may do about its load.

    Args:
        replica: what its replicas share, the depth's policy among it.
        rule: of the scaling law; the same `least` and `most` is a fleet that does not scale.
        replicas: at the beginning; 0 is the least.
        start_s: from the decision to a replica that takes streams.
        retry_s: after which a refused client asks again, as long as it has something to say; 0 is
            a client that goes away.
        moves: whether crowded replicas ask streams to move.
        seed: of all that is drawn.
    """

    replica: ReplicaConfig
    rule: ScalingRule
    replicas: int = 0
    start_s: float = 30.0
    retry_s: float = 5.0
    moves: bool = True
    seed: int = 0


def simulate_fleet(trace: Trace, plan: FleetPlan) -> FleetScores:
    """Run a load to its end; equal arguments give equal scores."""
    return run_virtually(_FleetRun(trace, plan).play())


class _FleetRun:
    def __init__(self, trace: Trace, plan: FleetPlan) -> None:
        self._trace = trace
        self._plan = plan
        self._scores = Scores()
        self._fleet = FleetScores(self._scores)
        self._state = ScalingState()
        self._replicas: dict[Replica, asyncio.Task[None]] = {}
        self._balances: dict[Replica, Balance] = {}
        self._num_made = 0
        self._coming: list[asyncio.TimerHandle] = []
        self._metronome = Metronome()
        self._clients: dict[FleetClient, None] = {}
        self._asked: list[FleetClient] = []
        self._num_lags = 0

    async def play(self) -> FleetScores:
        loop = asyncio.get_running_loop()
        for _ in range(self._plan.replicas or self._plan.rule.least):
            self._start()
        background = [
            asyncio.create_task(self._metronome.run()),
            asyncio.create_task(self._watch()),
        ]
        for arrival in self._trace.arrivals:
            await asyncio.sleep(max(0.0, arrival.at_s - loop.time()))
            speech = drawn_speech(arrival.duration_s, arrival.seed, self._plan.replica.manner)
            client = FleetClient(arrival, speech, loop.time, ask=self._asked)
            self._scores.offered_s += arrival.duration_s
            self._clients[client] = None
            self._place(client, arrival.duration_s)
        await self._until_empty()
        for task in [*background, *self._replicas.values()]:
            await stopped(task)
        return self._fleet

    async def _until_empty(self) -> None:
        deadline_s = self._trace.end_s + CLOSING_S
        while self._clients:
            if asyncio.get_running_loop().time() > deadline_s:
                return
            await asyncio.sleep(WATCH_S)

    def _place(self, client: FleetClient, left_s: float) -> None:
        """Bring a client to the replica with the least load, or have it ask again later."""
        reports = {str(one.number): one.report() for one in self._there()}
        first = next(iter(by_load(reports, {}, {name: int(name) for name in reports})), None)
        replica = next((one for one in self._there() if str(one.number) == first), None)
        if replica is None or not self._enters(client, replica, left_s):
            self._refuse(client, left_s)

    def _enters(self, client: FleetClient, replica: Replica, left_s: float) -> bool:
        def ended() -> None:
            if client.speaker is speaker:
                client.replica = client.speaker = None
                self._clients.pop(client, None)

        speaker = replica.take_speech(left_s, client.rest, ended)
        if speaker is None:
            return False
        client.replica, client.speaker = replica, speaker
        self._metronome.add(speaker)
        return True

    def _refuse(self, client: FleetClient, left_s: float) -> None:
        if not client.refused:
            client.refused = True
            self._scores.num_refused += 1
        client.replica = client.speaker = None
        wait_s = self._plan.retry_s
        if not wait_s or left_s <= wait_s:
            self._fleet.unserved_s += left_s
            self._clients.pop(client, None)
            return
        self._fleet.unserved_s += wait_s
        asyncio.get_running_loop().call_later(wait_s, self._place, client, left_s - wait_s)

    def _there(self) -> list[Replica]:
        return [replica for replica in self._replicas if not replica.draining]

    def _start(self) -> None:
        number, self._num_made = self._num_made, self._num_made + 1
        clock = asyncio.get_running_loop().time
        seed = self._plan.seed * SEED_STEP + number
        replica = Replica(number, self._plan.replica, self._scores, clock, seed)
        self._replicas[replica] = asyncio.create_task(replica.run())
        self._balances[replica] = Balance(str(number), clock)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for replica in list(self._replicas):
                replica.watch(WATCH_S)
                if replica.draining and not replica.num_streams:
                    del self._balances[replica]
                    await stopped(self._replicas.pop(replica))
            self._note()
            self._scale()
            if self._plan.moves:
                self._balance()
            asked, self._asked[:] = list(self._asked), []
            for client in asked:
                self._leave_at_pause(client)

    def _note(self) -> None:
        lags_s, self._num_lags = self._scores.lag_s[self._num_lags :], len(self._scores.lag_s)
        streams = [(one.num_streams, one.layers) for one in self._replicas]
        full = self._plan.replica.card.full.effective_layers
        self._fleet.latencies_s.append(next(iter(self._replicas)).report().lag_s)
        self._fleet.moments.append(
            Moment.of(
                asyncio.get_running_loop().time(),
                lags_s,
                streams,
                coming=len(self._coming),
                waiting=sum(one.speaker is None for one in self._clients),
                full_layers=full,
            )
        )

    def _scale(self) -> None:
        loop, there = asyncio.get_running_loop(), self._there()
        reading = FleetReading(
            now_s=loop.time(),
            num_replicas=len(there) + len(self._coming),
            num_running=len(there),
            loads=[replica.report() for replica in there],
        )
        decision = decide(self._plan.rule, reading, self._state)
        self._state = decision.state
        more = decision.wanted - reading.num_replicas
        if more:
            self._fleet.decisions.append((loop.time(), decision.wanted, decision.reason))
        for _ in range(more):
            self._coming.append(loop.call_later(self._plan.start_s, self._started))
        for _ in range(min(-more, len(self._coming))):
            self._coming.pop().cancel()
            more += 1
        there.sort(key=lambda replica: (replica.num_streams, -replica.number))
        for replica in there[: max(0, -more)]:
            replica.draining = True
            for client in self._of(replica):
                if client.can_move:
                    client.ask_to_move()

    def _started(self) -> None:
        self._coming.pop(0)
        self._start()

    def _balance(self) -> None:
        members = {str(one.number): Member(str(one.number), one.report()) for one in self._there()}
        for replica in self._there():
            balance = self._balances[replica]
            chosen = those_to_move(self._of(replica), balance.num_to_ask(members))
            for client in chosen:
                client.ask_to_move()
            balance.asked(len(chosen))

    def _of(self, replica: Replica) -> list[FleetClient]:
        return [client for client in self._clients if client.replica is replica]

    def _leave_at_pause(self, client: FleetClient) -> None:
        wait_s = client.until_pause_s
        if wait_s is not None:
            asyncio.get_running_loop().call_later(wait_s, self._move, client)

    def _move(self, client: FleetClient) -> None:
        client.leaving = False
        if client.speaker is None or client.speaker.silent:
            return
        speaker, client.speaker = client.speaker, None
        left_s = speaker.end()
        client.moved_at_s = client.clock()
        self._fleet.num_moves += 1
        if left_s:
            self._place(client, left_s)
        else:
            self._clients.pop(client, None)
