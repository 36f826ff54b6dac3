"""WebSocket connections that end when they are told to, and say nothing of their query in the log."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

CLOSE_LINGER_S = 5.0
"""Time for what was sent to reach a client, once its connection is closed from here."""


class StreamProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which waits for ever to close on a client that does not read."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # Any: the app's own
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn logs a line with the whole query for every connection.
        self.logger = logging.getLogger("uvicorn.error.sockets")
        self.logger.setLevel(logging.WARNING)
        self.conn.logger = self.logger
        self.conn.debug = False

    async def send(self, message: "ASGISendEvent") -> None:
        """Send; a close goes out behind what is stuck, and takes the connection along in the end."""
        closing = message["type"] == "websocket.close"
        if closing:
            self.writable.set()
        await super().send(message)
        if closing:
            self.loop.call_later(CLOSE_LINGER_S, self.transport.abort)
