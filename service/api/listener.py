"""How the app listens: uvicorn, with limits and WebSockets of our own."""

import uvicorn
from fastapi import FastAPI

from service.api.connections import protocol_with_deadline
from service.api.sockets import StreamProtocol
from service.settings import Settings, listed

PING_EVERY_S = 20.0
FLUSH_S = 2
"""Seconds; answers that are ready when the drain ends still have to leave."""


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Give uvicorn's configuration."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol_with_deadline(settings.header_timeout_s),
        ws=StreamProtocol,
        ws_max_size=settings.max_frame_bytes,
        ws_ping_interval=PING_EVERY_S,
        # Pings keep proxies from closing a quiet connection. Whether a client is still there, its
        # messages say: a pong that waits behind a backlog must not kill a healthy stream.
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=FLUSH_S,
        # Unless a proxy is trusted, a client's own word on its address counts for nothing.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(listed(settings.trusted_proxies)),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
