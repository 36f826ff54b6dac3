"""A replica's own port, on real sockets; Serve is stood in for by whoever runs the app's lifespan."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import connect

from service.engine.fake import FakeEngine
from service.fleet.direct import listen_directly
from service.fleet.replica import FleetReplica
from service.settings import Settings
from tests.service_kit import until
from tests.stream_kit import packets, sound


@asynccontextmanager
async def listening(**settings: Any) -> AsyncGenerator[FleetReplica]:
    read = Settings(**settings)
    replica = await asyncio.to_thread(
        FleetReplica, read, FakeEngine(), CollectorRegistry(), time.monotonic, "a"
    )
    listen_directly(replica, read, "127.0.0.1", "127.0.0.1")
    async with replica.service.app.router.lifespan_context(replica.service.app):
        await replica.check_health()
        yield replica


def url_of(replica: FleetReplica, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{replica.port}"


async def test_the_app_answers_on_a_port_of_its_own_as_long_as_it_lives() -> None:
    async with httpx.AsyncClient() as client:
        async with listening(port=1, tls_certificate="/c", tls_key="/k") as replica:
            answer = await client.get(f"{url_of(replica)}/readyz")
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{url_of(replica)}/readyz")

    assert answer.status_code == 200


async def test_at_the_end_streams_are_warned_and_leave_before_the_port_closes() -> None:
    told: list[dict[str, Any]] = []

    async def hear(replica: FleetReplica) -> None:
        async with connect(f"{url_of(replica, 'ws')}/v1/stream", compression=None) as stream:
            for packet in packets(sound((0.5, 0.1))):
                await stream.send(packet)
            told.extend([json.loads(message) async for message in stream])

    async with listening(shutdown_grace_s=4) as replica:
        hearing = asyncio.create_task(hear(replica))
        await until(lambda: replica.service.admission.streams.num_taken)
    await asyncio.wait_for(hearing, 5)

    kinds = [one["type"] for one in told]
    assert [one["code"] for one in told if one["type"] == "warning"] == ["draining"]
    assert kinds.index("warning") < kinds.index("final") < kinds.index("done")


async def test_who_is_dismissed_drains_once_whoever_says_so_first() -> None:
    async with listening() as replica:
        await replica.drain()
        await replica.drain()

        assert replica.service.admission.phase.value == "draining"


@pytest.mark.parametrize("trusted", ["", "10.0.0.0/8", "*"])
async def test_the_balancers_word_on_a_client_is_taken(trusted: str) -> None:
    statuses: list[int] = []
    async with (
        listening(trusted_proxies=trusted, rate_limit_per_minute=1, rate_limit_burst=1) as replica,
        httpx.AsyncClient() as client,
    ):
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
            answer = await client.get(
                f"{url_of(replica)}/v1/models", headers={"X-Forwarded-For": address}
            )
            statuses.append(answer.status_code)

    assert statuses == [200, 429, 200]
