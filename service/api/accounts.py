"""Counts and logs every request by its outcome; plain ASGI, so that nothing is buffered."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.scheduling.clock import Clock

logger = logging.getLogger(__name__)

ENDPOINTS = {"/transcribe": "transcribe", "/v1/models": "models"}
"""Paths that are counted, and the name each has in metrics: a closed set."""

_CANCELLED_STATUS = 499
_FIRST_ERROR_STATUS = 400
_OVERLOADED_STATUS = 503
_FIRST_FAULT_STATUS = 500


class RequestAccounts:
    """Middleware around the whole app."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, clock: Clock) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through and note its status and time."""
        endpoint = ENDPOINTS.get(scope.get("path", ""))
        if scope["type"] != "http" or endpoint is None:
            await self._app(scope, receive, send)
            return
        started_s = self._clock()
        status = _FIRST_FAULT_STATUS  # of a request that ends without an answer

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            self._metrics.requests.outcomes.labels(endpoint, outcome_of(status)).inc()
            took_s = self._clock() - started_s
            logger.info("%s %s -> %d in %.3f s", scope["method"], scope["path"], status, took_s)


def outcome_of(status: int) -> str:
    """Name the outcome that a status stands for."""
    if status < _FIRST_ERROR_STATUS:
        return "ok"
    if status == _CANCELLED_STATUS:
        return "cancelled"
    if status == _OVERLOADED_STATUS:
        return "overloaded"
    return "rejected" if status < _FIRST_FAULT_STATUS else "failed"
