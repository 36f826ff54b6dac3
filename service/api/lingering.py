"""Keeps a connection open for a moment when an answer comes before the request was all sent.

Clients that read their answer only once they have sent everything would otherwise meet a reset
connection and never learn why they were refused.
"""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S = 5.0
"""Seconds for which the rest of a refused upload is read and thrown away."""

_CLOSE = (b"connection", b"close")


class Lingering:
    """Middleware around the whole app; acts on answers that say `Connection: close`.

    Args:
        app: what answers.
        linger_s: time that the client has to finish sending.
    """

    def __init__(self, app: ASGIApp, *, linger_s: float = LINGER_S) -> None:
        self._app = app
        self._linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through, and hold back the end of an early last answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        all_received = closes = False

        async def receive_noting_end() -> Message:
            nonlocal all_received
            message = await receive()
            all_received = not message.get("more_body", False)
            return message

        async def send_lingering(message: Message) -> None:
            nonlocal closes
            if message["type"] == "http.response.start":
                closes = _CLOSE in message["headers"]
            elif closes and not all_received and not message.get("more_body", False):
                await send({**message, "more_body": True})
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._linger_s):
                        while not all_received:
                            await receive_noting_end()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, receive_noting_end, send_lingering)
