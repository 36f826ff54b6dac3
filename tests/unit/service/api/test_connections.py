"""On real sockets of this machine, since what is tested is a protocol of the event loop."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from service.api.connections import protocol_with_deadline
from tests.service_kit import PATIENCE_S, until

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


class QuietServer(uvicorn.Server):
    """A server that leaves the signals to the test run."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def listening(head_timeout_s: float) -> AsyncGenerator[int]:
    config = uvicorn.Config(
        app, port=0, lifespan="off", log_config=None, http=protocol_with_deadline(head_timeout_s)
    )
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send pieces, then give all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    async with asyncio.timeout(PATIENCE_S):
        received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received


async def test_a_connection_that_sends_nothing_is_closed() -> None:
    async with listening(head_timeout_s=0.01) as port:
        assert await exchange(port) == b""


async def test_a_head_that_never_ends_is_closed() -> None:
    async with listening(head_timeout_s=0.01) as port:
        assert await exchange(port, REQUEST[:10]) == b""


async def test_a_second_head_that_never_ends_is_closed() -> None:
    async with listening(head_timeout_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await reader.readuntil(b"ok")

        writer.write(REQUEST[:10])

        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_request_in_time_is_answered() -> None:
    async with listening(head_timeout_s=PATIENCE_S) as port:
        answer = await exchange(
            port, REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )

    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_idle_sockets_leave_room_for_a_request() -> None:
    async with listening(head_timeout_s=PATIENCE_S) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        answer = await exchange(
            port, REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        for _, writer in idle:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in idle))

    assert answer.startswith(b"HTTP/1.1 200 OK")
