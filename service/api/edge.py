"""What stands around the whole app: ids, accounts, foreign pages, keys and limits; outermost first.

request -> its id -> lingering -> accounts -> CORS -> the entrance -> routes
"""

from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.api.accounts import RequestAccounts
from service.api.entrance import AtTheEntrance, Entrance
from service.api.keys import KeyRing, read_keys
from service.api.limits import TokenBuckets
from service.api.lingering import Lingering
from service.api.origins import Origins
from service.api.request_ids import HEADER, RequestIds
from service.errors import SettingsInvalid
from service.metrics import Metrics
from service.scheduling.clock import Clock
from service.settings import Settings, listed

SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_ASKED_HEADERS = ("Authorization", "Content-Type", "X-API-Key", HEADER)
_TOLD_HEADERS = (
    HEADER,
    "Retry-After",
    "Server-Timing",
    "X-ASR-Audio-Seconds",
    "X-ASR-Drop",
    "X-ASR-Encoder-FLOPs",
    "X-ASR-FLOPs",
    "X-ASR-Layers",
    "X-ASR-Plan",
)
SECONDS_PER_MINUTE = 60


def install_edge(app: FastAPI, settings: Settings, metrics: Metrics, clock: Clock) -> Entrance:
    """Put all that around an app.

    Raises:
        SettingsInvalid: the keys cannot be read.
    """
    origins = listed(settings.allowed_origins)
    entrance = Entrance(
        key_ring(settings),
        Origins(origins),
        TokenBuckets(
            settings.rate_limit_per_minute / SECONDS_PER_MINUTE, settings.rate_limit_burst, clock
        ),
        metrics,
        metrics_open=settings.metrics_open,
    )
    # The last one added is the outermost.
    app.add_middleware(AtTheEntrance, entrance=entrance)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=_ASKED_HEADERS,
            expose_headers=_TOLD_HEADERS,
        )
    app.add_middleware(RequestAccounts, metrics=metrics, clock=clock)
    app.add_middleware(Lingering)
    app.add_middleware(RequestIds)
    if len(entrance.keys):
        _document_keys(app, entrance)
    return entrance


def key_ring(settings: Settings) -> KeyRing:
    """Read the keys, from the file and from the environment together.

    Raises:
        SettingsInvalid: the file cannot be read, or a line of it.
    """
    lines: list[str] = []
    if settings.api_keys_file is not None:
        try:
            lines += settings.api_keys_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(
                f"expected a readable file of keys at {settings.api_keys_file}, got none"
            ) from error
    if settings.api_keys is not None:
        lines += listed(settings.api_keys.get_secret_value())
    ring = read_keys(lines)
    if not len(ring) and (settings.api_keys_file is not None or settings.api_keys is not None):
        # Whoever names a file believes that the door is locked.
        raise SettingsInvalid("expected at least one key, got none")
    return ring


def _document_keys(app: FastAPI, entrance: Entrance) -> None:
    make = app.openapi

    def with_keys() -> dict[str, Any]:  # Any: OpenAPI's JSON
        document = make()
        document.setdefault("components", {})["securitySchemes"] = SCHEMES
        for path, operations in document["paths"].items():
            if not entrance.is_open(path):
                for operation in operations.values():
                    operation["security"] = [{name: []} for name in SCHEMES]
        return document

    app.openapi = with_keys
