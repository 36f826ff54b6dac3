"""Everybody comes in here: whose page, who, and how often; before anything is read or computed.

    request -> its origin -> its key -> its caller's token bucket -> the app
                 403           401         429

All paths are closed unless they are named here as open, so that a new route cannot be forgotten. A
WebSocket of a foreign page gets no handshake; other refusals wait for its route, which accepts and
says so in its dialect before it closes (4401, 4429).
"""

import math
from dataclasses import dataclass
from typing import cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.keys import ANYBODY, Caller, KeyRing, shown_key
from service.api.limits import TokenBuckets, network_of
from service.api.origins import Origins
from service.api.problems import response_to
from service.api.request_ids import request_id_of
from service.errors import OriginRefused, RateLimited, ServiceError, Unauthenticated
from service.metrics import Metrics

OPEN_PATHS = frozenset(
    {"/", "/docs", "/livez", "/openapi.json", "/readyz", "/redoc", "/v1/asyncapi.json"}
)
OPEN_FOLDER = "/web/"
METRICS_PATH = "/metrics"
_STATE_KEY = "admitted"


@dataclass(frozen=True, slots=True)
class Entrance:
    """Who may come in.

    Args:
        keys: without any, everybody may.
        origins: of pages.
        buckets: of callers, or of addresses where nobody has a key.
        metrics: counts who may not.
        metrics_open: whether `/metrics` needs no key.
    """

    keys: KeyRing
    origins: Origins
    buckets: TokenBuckets
    metrics: Metrics
    metrics_open: bool = True

    def is_open(self, path: str) -> bool:
        """Tell whether an HTTP path needs no key and counts for nobody."""
        if path == METRICS_PATH:
            return self.metrics_open
        return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)

    def check_origin(self, scope: Scope) -> None:
        """Refuse pages of other sites.

        Raises:
            OriginRefused: it is one.
        """
        # A WebSocket is asked for by a GET, and is not harmless for that.
        method = scope["method"] if scope["type"] == "http" else ""
        self.origins.check(method, Headers(scope=scope))

    def identify(self, scope: Scope) -> Caller:
        """Say who asks, and count it.

        Raises:
            Unauthenticated: no key was shown, or one that is none of ours.
            RateLimited: the caller asks too often, or too many wrong keys came from an address.
        """
        caller = ANYBODY
        if len(self.keys):
            key = shown_key(Headers(scope=scope))
            found = None if key is None else self.keys.find(key)
            # Looked up although the address may have used up its tokens: everybody behind one proxy
            # or one household's router has the same, and one wrong key a while would lock them out.
            # That leaves guesses their pace; what makes them hopeless is the length of keys.
            if found is None:
                self.metrics.requests.auth_failures.inc()
                self._count(_network(scope))
                raise Unauthenticated("expected a valid API key, got none")
            caller = found
        self._count(f"key {caller.name}" if caller.name else _network(scope))
        return caller

    def _count(self, who: str) -> None:
        wait_s = self.buckets.take(who)
        if wait_s:
            self.metrics.requests.admission_rejected.labels(RateLimited.code).inc()
            raise RateLimited(
                "expected fewer requests, got one too many", retry_after_s=math.ceil(wait_s)
            )


class AtTheEntrance:
    """Middleware that asks everybody in.

    Args:
        app: behind it.
        entrance: decides.
    """

    def __init__(self, app: ASGIApp, *, entrance: Entrance) -> None:
        self._app = app
        self._entrance = entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        asks = scope["type"] in ("http", "websocket")
        refusal = self._refusal(scope) if asks else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await response_to(refusal, request_id_of(scope))(scope, receive, send)

    def _refusal(self, scope: Scope) -> ServiceError | None:
        is_http = scope["type"] == "http"
        if is_http and self._entrance.is_open(scope["path"]):
            _note(scope, ANYBODY)
            return None
        try:
            self._entrance.check_origin(scope)
            _note(scope, self._entrance.identify(scope))
        except OriginRefused as error:
            return error
        except ServiceError as error:
            if is_http:
                return error
            _note(scope, error)
        return None


def caller_of(scope: Scope) -> Caller:
    """Give who asks; every WebSocket route has to call this before it does anything for a client.

    Raises:
        Unauthenticated: nobody we know.
        RateLimited: too often.
    """
    admitted = cast("Caller | ServiceError", scope["state"][_STATE_KEY])
    if isinstance(admitted, ServiceError):
        raise admitted
    return admitted


def name_of(scope: Scope) -> str | None:
    """Give the caller's name for the log, if there is one."""
    admitted = cast("Caller | ServiceError | None", scope.get("state", {}).get(_STATE_KEY))
    return (admitted.name or None) if isinstance(admitted, Caller) else None


def _note(scope: Scope, admitted: Caller | ServiceError) -> None:
    scope["state"][_STATE_KEY] = admitted


def _network(scope: Scope) -> str:
    client = scope.get("client")
    return network_of(client[0] if client else None)
