"""Connections that never get as far as a request are closed, so that idle sockets cost little."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol_with_deadline(head_timeout_s: float) -> type[H11Protocol]:
    """Make uvicorn's protocol close a connection whose request's head takes too long.

    uvicorn has a limit for idle time between requests and none for the first head, or for one that
    dribbles in byte by byte.
    """

    class ImpatientProtocol(H11Protocol):
        _head_deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._watch_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_watching()
            super().connection_lost(exc)

        def _watch_head(self) -> None:
            if self.conn.their_state is not h11.IDLE:
                self._stop_watching()
            elif self._head_deadline is None:
                self._head_deadline = self.loop.call_later(
                    head_timeout_s, self.timeout_keep_alive_handler
                )

        def _stop_watching(self) -> None:
            if self._head_deadline is not None:
                self._head_deadline.cancel()
                self._head_deadline = None

    return ImpatientProtocol
