import asyncio
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from service.api.lingering import Lingering
from tests.service_kit import PATIENCE_S

CLOSE = [(b"connection", b"close")]


class Exchange:
    """An app that answers at once, and a client that may still be sending."""

    def __init__(self, headers: list[tuple[bytes, bytes]], *, reads: int = 0) -> None:
        self._headers = headers
        self._reads = reads
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []

    async def app(self, _scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(self._reads):
            await receive()
        await send({"type": "http.response.start", "status": 413, "headers": self._headers})
        await send({"type": "http.response.body", "body": b"no"})

    async def run(self, linger_s: float = PATIENCE_S) -> None:
        async def send(message: Message) -> None:
            self.sent.append(message)

        await Lingering(self.app, linger_s=linger_s)({"type": "http"}, self.incoming.get, send)

    def client_sends(self, *, more: bool) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": b"x", "more_body": more})

    @property
    def body(self) -> list[tuple[Any, Any]]:
        return [(m["body"], m.get("more_body", False)) for m in self.sent[1:]]


async def test_the_answer_leaves_at_once_and_ends_when_the_client_has_sent_all() -> None:
    exchange = Exchange(CLOSE)
    running = asyncio.create_task(exchange.run())
    exchange.client_sends(more=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert exchange.body == [(b"no", True)]

    exchange.client_sends(more=False)
    await running

    assert exchange.body == [(b"no", True), (b"", False)]


async def test_a_client_that_leaves_ends_it() -> None:
    exchange = Exchange(CLOSE)
    exchange.incoming.put_nowait({"type": "http.disconnect"})

    await exchange.run()

    assert exchange.body == [(b"no", True), (b"", False)]


async def test_a_client_that_neither_sends_nor_leaves_is_not_waited_for_long() -> None:
    exchange = Exchange(CLOSE)

    await exchange.run(linger_s=1e-3)

    assert exchange.body == [(b"no", True), (b"", False)]


async def test_nothing_lingers_once_all_was_received() -> None:
    exchange = Exchange(CLOSE, reads=1)
    exchange.client_sends(more=False)

    await exchange.run()

    assert exchange.body == [(b"no", False)]


async def test_an_answer_that_keeps_the_connection_is_passed_on() -> None:
    exchange = Exchange([])

    await exchange.run()

    assert exchange.body == [(b"no", False)]


async def test_what_is_no_request_is_passed_on() -> None:
    passed: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        passed.append(scope["type"])

    await Lingering(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]

    assert passed == ["lifespan"]
