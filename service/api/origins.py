"""Whose pages may use the service from a browser.

A browser names the page's origin on every WebSocket and every POST, and lets any page open a
WebSocket anywhere. Programs that are no browser send none and are not asked for one.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.errors import OriginRefused

ANY = "*"
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing; whether a page may read the answer is up to CORS."""


class Origins:
    """The origins that are let in beside the service's own.

    Args:
        allowed: like `https://captions.example.org`, or `*` for all.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(origin.rstrip("/").lower() for origin in allowed)

    def check(self, method: str, headers: Headers) -> None:
        """Let a request pass, or not.

        Args:
            method: of HTTP; a WebSocket is asked for by a GET, yet is not harmless: pass `""`.
            headers: of the request.

        Raises:
            OriginRefused: it comes from a page of another site.
        """
        origin = headers.get("origin")
        if origin is None or method in _HARMLESS or ANY in self._allowed:
            return
        if origin.lower() in self._allowed or _is_own(origin, headers.get("host", "")):
            return
        raise OriginRefused("expected a page of this host or of an allowed origin, got another's")


def _is_own(origin: str, host: str) -> bool:
    # The scheme is not compared beyond its port: behind a proxy that speaks TLS we see http.
    page = _host_and_port(origin)
    if page is None:
        return False
    scheme = origin.partition(":")[0].lower()
    return page == _host_and_port(f"{scheme}://{host}")


def _host_and_port(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):  # "null", a broken port, or no page of the web
        return None
    return (parts.hostname, port) if parts.hostname else None
