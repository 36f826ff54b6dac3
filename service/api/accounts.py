"""Logs every request and stream, one line each, and counts; plain ASGI, so nothing is buffered."""

import logging
from dataclasses import dataclass
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.entrance import name_of
from service.logs import fields
from service.metrics import Metrics
from service.scheduling.clock import Clock
from service.streaming.events import Done, Event, Stats

logger = logging.getLogger(__name__)

ENDPOINTS = {
    ("http", "/transcribe"): "transcribe",
    ("http", "/v1/models"): "models",
    ("websocket", "/v1/stream"): "stream",
}
"""What is counted, and the name each has in metrics: a closed set."""
QUIET_PATHS = frozenset({"/livez", "/metrics", "/readyz"})
"""Asked every few seconds by probes and scrapers: a line of level debug, unless they are refused."""
MAX_PATH_CHARS = 200
"""Of a path in a log line, which anybody may make up."""

_WEBSOCKET = "WS"
"""In place of a method, which the handshake of a WebSocket has none of."""
_CANCELLED_STATUS = 499
_NO_HANDSHAKE_STATUS = 403
_FIRST_ERROR_STATUS = 400
_OVERLOADED_STATUS = 503
_ANSWERS = frozenset({"http.response.start", "websocket.http.response.start"})
_FIRST_FAULT_STATUS = 500


class RequestAccounts:
    """Middleware around the whole app.

    A WebSocket that gets its handshake is its route's to account for; one that gets none is a
    request like others.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, clock: Clock) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through and note its status and time."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started_s = self._clock()
        status = _FIRST_FAULT_STATUS  # of a request that ends without an answer
        accepted = False

        async def send_noting_status(message: Message) -> None:
            nonlocal status, accepted
            if message["type"] in _ANSWERS:
                status = message["status"]
            elif message["type"] == "websocket.close":
                status = _NO_HANDSHAKE_STATUS  # what the server makes of it; or it was accepted
            elif message["type"] == "websocket.accept":
                accepted = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            if not accepted:
                self._account(scope, status, self._clock() - started_s)

    def _account(self, scope: Scope, status: int, took_s: float) -> None:
        if endpoint := ENDPOINTS.get((scope["type"], scope["path"])):
            self._metrics.requests.outcomes.labels(endpoint, outcome_of(status)).inc()
        _log(scope, status, took_s)


@dataclass(slots=True)
class StreamAccount:
    """What the log says of a stream once it has ended; kept up to date by what its client is told.

    Args:
        dialect: the label in metrics.
        scope: of its handshake.
        opened_at_s: when that was.
    """

    dialect: str
    scope: Scope
    opened_at_s: float
    stats: Stats | None = None

    def told(self, event: Event) -> None:
        """Take what the client is told."""
        if isinstance(event, Stats):
            self.stats = event
        elif isinstance(event, Done):
            self.stats = event.stats

    def log(self, reason: str, now_s: float) -> None:
        """Write the one line; `reason` is a word of a closed set."""
        audio_s = self.stats.audio_s if self.stats else 0.0
        layers = self.stats.layers if self.stats else 0.0
        logger.info(
            "a stream ended: %s after %.1f s of audio at %.2f layers",
            reason,
            audio_s,
            layers,
            extra=fields(
                dialect=self.dialect,
                close_reason=reason,
                audio_s=round(audio_s, 3),
                layers=round(layers, 3),
                utterances=self.stats.utterances if self.stats else 0,
                duration_s=round(now_s - self.opened_at_s, 3),
                key_name=name_of(self.scope),
                client=address_of(self.scope),
            ),
        )


def _log(scope: Scope, status: int, took_s: float) -> None:
    is_refused = _FIRST_ERROR_STATUS <= status < _FIRST_FAULT_STATUS
    is_quiet = scope["path"] in QUIET_PATHS and not is_refused
    # Quoted again: line feeds and the like came in as %0A and would begin a line of their own.
    method = scope.get("method", _WEBSOCKET)
    path = quote(scope["path"], errors="replace")[:MAX_PATH_CHARS]
    logger.log(
        logging.DEBUG if is_quiet else logging.INFO,
        "%s %s -> %d in %.3f s",
        method,
        path,
        status,
        took_s,
        extra=fields(
            method=method,
            path=path,
            status=status,
            duration_s=round(took_s, 4),
            key_name=name_of(scope),
            client=address_of(scope),
        ),
    )


def address_of(scope: Scope) -> str | None:
    """Give the client's address, as far as a trusted proxy or the socket says."""
    client = scope.get("client")
    return client[0] if client else None


def outcome_of(status: int) -> str:
    """Name the outcome that a status stands for."""
    if status < _FIRST_ERROR_STATUS:
        return "ok"
    if status == _CANCELLED_STATUS:
        return "cancelled"
    if status == _OVERLOADED_STATUS:
        return "overloaded"
    return "rejected" if status < _FIRST_FAULT_STATUS else "failed"
