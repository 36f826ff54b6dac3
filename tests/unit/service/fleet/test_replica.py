import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from prometheus_client import CollectorRegistry

from service.engine.base import Engine, ModelInfo
from service.engine.fake import FakeEngine
from service.errors import EngineFailed, ModelUnusable
from service.fleet.replica import FleetReplica
from service.fleet.reports import ReplicaReport
from service.fleet.view import Member
from service.scheduling.admission import Phase
from service.settings import Settings
from tests.service_kit import FakeClock, until


class UnusableEngine(FakeEngine):
    def load(self) -> ModelInfo:
        raise ModelUnusable("expected a model, got none")


@dataclass
class InFleet:
    replica: FleetReplica
    client: httpx.AsyncClient
    registry: CollectorRegistry


@asynccontextmanager
async def replica(
    engine: Engine | None = None, decisions: Mapping[str, int] | None = None
) -> AsyncGenerator[InFleet]:
    registry = CollectorRegistry()
    made = await asyncio.to_thread(
        FleetReplica,
        Settings(shutdown_grace_s=0.05),
        engine or FakeEngine(),
        registry,
        FakeClock(),
        "a",
        lambda: decisions or {},
    )
    app = made.service.app
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield InFleet(made, client, registry)


def member(name: str, rank: int = 0, *, weight: float = 0.0, debt: float = 0.0) -> Member:
    report = ReplicaReport(rank=rank, weight=weight, depth_debt=debt)
    return Member(name, report, f"10.0.0.{rank}:9000")


async def test_a_replica_is_well_once_its_model_is_loaded() -> None:
    async with replica() as one:
        await one.replica.check_health()

        assert one.replica.service.admission.phase is Phase.READY


async def test_a_replica_whose_model_cannot_be_loaded_is_not() -> None:
    async with replica(UnusableEngine()) as one:
        with pytest.raises(EngineFailed, match="got one that failed"):
            await one.replica.check_health()


async def test_a_dismissed_replica_drains_and_is_not_well() -> None:
    async with replica() as one:
        await one.replica.check_health()
        one.replica.update({"a": member("a"), "b": member("b", 1)})
        one.replica.update({"b": member("b", 1)})
        await until(lambda: one.replica.service.admission.phase is Phase.DRAINING)

        with pytest.raises(EngineFailed, match="got one that drains"):
            await one.replica.check_health()


async def test_who_is_still_there_when_the_grace_is_over_is_cut_off() -> None:
    async with replica() as one:
        await one.replica.check_health()
        admission = one.replica.service.admission
        one.replica.update({"a": member("a")})
        with admission.enter():
            one.replica.update({})
            with pytest.raises(Exception, match="stopping"):
                await admission.until_cut_off()


async def test_the_fleet_is_told_by_rank() -> None:
    async with replica() as one:
        one.replica.update({"b": member("b", 1, weight=2), "a": member("a")})
        answer = (await one.client.get("/fleet")).json()

    told = [(row["name"], row["rank"], row["weight"]) for row in answer["replicas"]]
    assert told == [("a", 0, 0.0), ("b", 1, 2.0)]


async def test_prometheus_is_told_every_replica_that_has_an_address() -> None:
    async with replica() as one:
        silent = Member("c", ReplicaReport(rank=2))
        one.replica.update({"b": member("b", 1), "a": member("a"), "c": silent})
        answer = (await one.client.get("/fleet/targets")).json()

    assert answer == [
        {"targets": ["10.0.0.0:9000"], "labels": {"replica": "0"}},
        {"targets": ["10.0.0.1:9000"], "labels": {"replica": "1"}},
    ]


async def test_the_number_of_replicas_is_a_series() -> None:
    async with replica() as one:
        one.replica.update({"a": member("a"), "b": member("b", 1)})

        assert one.registry.get_sample_value("asr_fleet_replicas") == 2


async def test_scaling_decisions_are_counted_once() -> None:
    async with replica(decisions={"debt": 3}) as one:
        one.replica.begin()
        series, labels = "asr_fleet_scaling_decisions_total", {"reason": "debt"}
        await until(lambda: one.registry.get_sample_value(series, labels) == 3)

        assert one.registry.get_sample_value(series, {"reason": "spare"}) == 0


async def test_a_replica_with_metrics_of_its_own_says_on_which_port() -> None:
    made = await asyncio.to_thread(
        FleetReplica,
        Settings(metrics_port=0),
        FakeEngine(),
        CollectorRegistry(),
        FakeClock(),
        "a",
    )
    assert made.metrics_port is None

    async with made.service.app.router.lifespan_context(made.service.app):
        assert made.metrics_port
