"""One id for each request: the caller's or a new one, in the answer, in errors and in log lines."""

import re
import secrets
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.logs import REQUEST_ID

HEADER = "X-Request-ID"

# What UUIDs, trace ids and the usual base64 are made of; nothing that could forge a log line.
_ACCEPTED = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}", re.ASCII)
_STATE_KEY = "request_id"
_ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class RequestIds:
    """Middleware around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name a request and pass it through."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = accepted(Headers(scope=scope).get(HEADER)) or secrets.token_hex(16)
        scope.setdefault("state", {})[_STATE_KEY] = request_id
        REQUEST_ID.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] in _ANSWERS:
                message.setdefault("headers", [])
                MutableHeaders(scope=message).setdefault(HEADER, request_id)
            await send(message)

        await self._app(scope, receive, send_with_id)


def accepted(given: str | None) -> str | None:
    """Give a caller's id back if it may stand in headers and log lines."""
    return given if given is not None and _ACCEPTED.fullmatch(given) else None


def request_id_of(scope: Scope) -> str:
    """Give the id under which a request goes."""
    return cast("str", scope.get("state", {}).get(_STATE_KEY, ""))
