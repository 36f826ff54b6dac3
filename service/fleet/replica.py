"""One service as a member of a fleet: how it drains, whom it asks to move, what it reports."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from service.app import create_service
from service.engine.base import Engine
from service.errors import EngineFailed
from service.fleet.balance import Balance
from service.fleet.reports import ReplicaReport, report_of
from service.fleet.routes import fleet_router
from service.fleet.view import FleetView, Member, Standing
from service.metrics import create_fleet_metrics
from service.scheduling.admission import Phase
from service.scheduling.clock import Clock
from service.settings import Settings

logger = logging.getLogger(__name__)

LOAD_POLL_S = 0.1
LOOK_EVERY_S = 1.0


class FleetReplica:
    """A service and its view of the fleet.

    Args:
        settings: of the service.
        engine: not loaded yet.
        registry: takes the metrics.
        clock: monotonic seconds.
        name: of the replica.
        read_decisions: gives the fleet's scaling decisions so far by reason; it may block.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        registry: CollectorRegistry,
        clock: Clock,
        name: str,
        read_decisions: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._clock = clock
        self._grace_s = settings.shutdown_grace_s
        self._failed = False
        self._draining: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._balance = Balance(name, clock)
        self._series = create_fleet_metrics(registry)
        self._read_decisions = read_decisions
        self._num_decisions: dict[str, int] = {}
        self.metrics_port: int | None = None
        self.port: int | None = None
        self.service = create_service(
            settings, engine, registry, clock, self._load_failed, self._on_metrics_port
        )
        self.view = FleetView(name, self._dismissed)
        self.service.app.include_router(fleet_router(self.view))

    async def drain(self) -> None:
        """Warn streams, and wait until they have left or the grace is over; begun once."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        await self._draining

    def begin(self) -> None:
        """Take part in the fleet; on the event loop, once the model is loaded."""
        self._looking = asyncio.create_task(self._look_after())

    def update(self, members: Mapping[str, Member]) -> None:
        """Learn who is in the fleet."""
        self.view.update(members)
        self._series.replicas.set(len(members))

    def report(self, rank: int) -> ReplicaReport:
        """Say how it is."""
        return report_of(self.service, self._clock(), rank)

    async def check_health(self) -> None:
        """Wait until the model is loaded, then say whether the replica is of use.

        Raises:
            EngineFailed: it is not; another one has to take its place.
        """
        admission = self.service.admission
        while admission.phase is Phase.LOADING and not self._failed:  # noqa: ASYNC110 no event tells
            await asyncio.sleep(LOAD_POLL_S)
        if self._failed:
            raise EngineFailed("expected an engine that runs, got one that failed")
        if self.view.standing is Standing.DISMISSED:
            # Serve asks those alone that it counts on, and nobody who drains takes streams again.
            raise EngineFailed("expected a replica that takes streams, got one that drains")

    def _on_metrics_port(self, port: int) -> None:
        self.metrics_port = port

    def _load_failed(self) -> None:
        self._failed = True

    def _dismissed(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _look_after(self) -> None:
        while self.view.standing is not Standing.DISMISSED:
            self._keep_balance()
            await self._count_decisions()
            await asyncio.sleep(LOOK_EVERY_S)

    def _keep_balance(self) -> None:
        num_above = self._balance.num_to_ask(self.view.members)
        if not num_above:
            return
        num_asked = self.service.ask_to_move(num_above)
        self._balance.asked(num_asked)
        self._series.moves_asked.inc(num_asked)
        logger.info("%d streams above the mean, %d asked to move", num_above, num_asked)

    async def _count_decisions(self) -> None:
        counts = await asyncio.to_thread(self._read_decisions)
        for reason, count in counts.items():
            # A store that began anew, with its cluster, counts from 0 again.
            known = self._num_decisions.get(reason, 0)
            self._series.decisions.labels(reason).inc(max(0, count - known))
            self._num_decisions[reason] = count

    async def _drain(self) -> None:
        admission = self.service.admission
        logger.info("dismissed: %d streams have %g s", admission.streams.num_taken, self._grace_s)
        admission.drain()
        try:
            async with asyncio.timeout(self._grace_s):
                await admission.drained()
        except TimeoutError:
            logger.warning("dismissed: the grace is over, streams are given up")
        admission.cut_off()
