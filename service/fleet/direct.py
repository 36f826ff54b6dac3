"""A replica's own port: streams come here from the load balancer, past Serve's proxy.

The app listens as it does under `asr serve`, with the same limits and pings. It is Serve that starts
and ends the app: when Serve says so, streams have their grace before the port closes.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from service.api.listener import server_config
from service.fleet.replica import FleetReplica
from service.settings import Settings, listed


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to Ray."""
        yield


def listen_directly(replica: FleetReplica, settings: Settings, host: str, balancer: str) -> None:
    """Have a replica listen on a free port as long as its app lives.

    Args:
        replica: its app has not begun yet.
        settings: of the service.
        host: address of the node.
        balancer: address from which the load balancer comes; its word on a client's is taken.
    """
    app = replica.service.app
    config = _config(app, settings, host, balancer)
    begin = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with begin(app), _listening(config) as port:
            replica.port = port
            try:
                yield
            finally:
                # Serve counts the requests that it has passed on itself, and these it has not.
                await replica.drain()

    app.router.lifespan_context = lifespan


@asynccontextmanager
async def _listening(config: uvicorn.Config) -> AsyncGenerator[int]:
    server = _Server(config)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.create_server((config.host, 0), family=family) as bound:
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


def _config(app: FastAPI, settings: Settings, host: str, balancer: str) -> uvicorn.Config:
    trusted = settings.trusted_proxies
    config = server_config(
        app,
        settings.model_copy(
            update={
                "host": host,
                "tls_certificate": None,  # the balancer has it
                "tls_key": None,
                "trusted_proxies": "*" if "*" in listed(trusted) else f"{balancer} {trusted}",
            }
        ),
    )
    config.lifespan = "off"  # Serve's
    return config
