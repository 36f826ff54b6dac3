"""What has been measured, in the text format: on the service's port or on one of its own."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    generate_latest,
    start_http_server,
)

from service.errors import SettingsInvalid

logger = logging.getLogger(__name__)


def exposition_router(registry: CollectorRegistry) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["operation"])

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        """Give every series in the text format."""
        # On a thread: what the process itself uses is read from files.
        page = await asyncio.to_thread(generate_latest, registry)
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    return router


@asynccontextmanager
async def exposition_port(registry: CollectorRegistry, host: str, port: int) -> AsyncGenerator[int]:
    """Serve the same page on a port of its own, and give its number; 0 takes a free one.

    Raises:
        SettingsInvalid: the port cannot be had.
    """
    try:
        server, thread = await asyncio.to_thread(start_http_server, port, host, registry)
    except OSError as error:
        raise SettingsInvalid(f"expected metrics_port to be free, got {error}") from error
    logger.info("metrics are on http://%s:%d/metrics", host, server.server_port)
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
