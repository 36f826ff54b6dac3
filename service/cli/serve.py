"""`asr serve`: the app on uvicorn, with a drain of its own.

SIGTERM -> not ready, new requests 503 -> running ones finish or the grace ends -> stop, exit 0
"""

import asyncio
import logging
import ssl
import time
from contextlib import suppress
from types import FrameType

import uvicorn
from prometheus_client import CollectorRegistry

from service.api.listener import server_config
from service.app import create_service
from service.engine.base import Engine
from service.errors import SettingsInvalid
from service.scheduling.admission import Admission
from service.settings import LOOPBACK, Settings

logger = logging.getLogger(__name__)


def serve(settings: Settings, engine: Engine) -> int:
    """Serve until told to stop.

    Args:
        settings: as read.
        engine: not loaded yet.

    Returns:
        0, or 1 when the model could not be loaded or the server could not start.
    """
    logger.info("settings: %s", settings.model_dump())
    warn_of_open_doors(settings)
    warn_of_idle_reserve(settings)
    check_tls(settings)
    load_failed = asyncio.Event()
    service = create_service(settings, engine, CollectorRegistry(), time.monotonic, load_failed.set)
    config = server_config(service.app, settings)
    server = DrainingServer(config, service.admission, settings.shutdown_grace_s)
    # SystemExit is how some releases of uvicorn give up a start, others return; all have said why.
    with suppress(SystemExit):
        asyncio.run(server.serve_until(load_failed))
    return 1 if load_failed.is_set() or server.never_started else 0


def check_tls(settings: Settings) -> None:
    """Read certificate and key once, so that what is wrong with them is said in our words.

    Raises:
        SettingsInvalid: they cannot be used.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    try:
        # An empty password, so that a key that has one is refused and nobody is asked for it.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_certificate, settings.tls_key, password=""
        )
    except OSError as error:  # ssl.SSLError is one
        raise SettingsInvalid(
            f"expected a certificate at {settings.tls_certificate} and its key, without a "
            f"password, at {settings.tls_key}; got what cannot be used"
        ) from error


def warn_of_open_doors(settings: Settings) -> None:
    """Say in the log what whoever reaches the service may do without being asked."""
    keyed = settings.api_keys_file is not None or settings.api_keys is not None
    if settings.host in LOOPBACK:
        return
    if not keyed:
        logger.warning("no API keys are set: whoever reaches %s may use it", settings.host)
    elif settings.tls_certificate is None and not settings.trusted_proxies:
        logger.warning("keys come in unencrypted unless a proxy that speaks TLS stands before us")


def warn_of_idle_reserve(settings: Settings) -> None:
    """Say in the log when places are reserved for keys that nobody can have."""
    keyed = settings.api_keys_file is not None or settings.api_keys is not None
    if settings.reserved_streams and not keyed:
        logger.warning(
            "reserved_streams=%d keeps nothing: without API keys everybody may take every place",
            settings.reserved_streams,
        )


class DrainingServer(uvicorn.Server):
    """A server that finishes what is running before it closes its doors.

    uvicorn alone closes the listening socket first, so that nobody could see it is not ready, and
    ends by raising the signal again, so that a clean stop looks like a crash.

    Args:
        config: of uvicorn.
        admission: knows who is in.
        grace_s: time that running requests have.
    """

    def __init__(self, config: uvicorn.Config, admission: Admission, grace_s: float) -> None:
        super().__init__(config)
        self._admission = admission
        self._grace_s = grace_s
        self._draining: asyncio.Task[None] | None = None

    @property
    def never_started(self) -> bool:
        """Whether it has not begun to serve although nobody told it to stop."""
        return not self.started and self._draining is None

    async def serve_until(self, failed: asyncio.Event) -> None:
        """Serve until a signal comes or the event is set."""
        watching = asyncio.create_task(self._stop_when(failed))
        try:
            await self.serve()
        finally:
            watching.cancel()
            if self._draining is not None:
                self._draining.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: the first one drains, a second one does not wait."""
        asyncio.get_running_loop().call_soon_threadsafe(self._on_signal)

    def _on_signal(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        else:
            self._admission.cut_off()

    async def _drain(self) -> None:
        logger.info("stopping: running requests have %g s", self._grace_s)
        self._admission.drain()
        try:
            async with asyncio.timeout(self._grace_s):
                await self._admission.drained()
        except TimeoutError:
            logger.warning("stopping: the grace is over, requests are given up")
        self._admission.cut_off()
        self.should_exit = True

    async def _stop_when(self, failed: asyncio.Event) -> None:
        await failed.wait()
        self.should_exit = True
