"""A server in a process of its own, on a free port, for tests that need the real thing."""

import http.client
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from tests.service_kit import PATIENCE_S

LOADING_PATIENCE_S = 90
"""Seconds; real weights on a machine that is busy with something else take their time."""


@dataclass
class Server:
    """A started server."""

    process: subprocess.Popen[str]
    port: int = 0
    log: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue[str])
    lines: list[str] = field(default_factory=list[str])
    """All of the log; `log` holds what nobody has waited for yet."""
    tls: ssl.SSLContext | None = None

    def connect(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=PATIENCE_S, context=self.tls
            )
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def open_socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def read_log(self) -> None:
        """Take the log's lines until the process ends, so that it never waits for a reader."""
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.lines.append(line)
                self.log.put(line)

    def wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + LOADING_PATIENCE_S
        while self.ask("GET", "/readyz")[0] != HTTPStatus.OK:
            assert self.process.poll() is None, "expected a server, got one that ended"
            assert time.monotonic() < deadline_s, "expected a server that is ready, got none"
            time.sleep(0.05)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """Read the log until a line matches."""
        seen: list[str] = []
        while not (match := re.search(pattern, "".join(seen[-1:]))):
            try:
                seen.append(self.log.get(timeout=PATIENCE_S))
            except queue.Empty:
                raise AssertionError(f"expected a line like {pattern!r}, got {seen}") from None
        return match


@contextmanager
def started(
    tls: ssl.SSLContext | None = None, on_port: int = 0, /, **settings: str
) -> Generator[Server]:
    """Start `python -m service serve` with settings and wait until it is ready.

    Args:
        tls: trusts the server's certificate, where it has one.
        on_port: that of a server that was; a free one, unless it is given.
        settings: without their prefix.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ASR_")}  # noqa: TID251
    environment |= {f"ASR_{name.upper()}": value for name, value in settings.items()}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "service", "serve", "--port", str(on_port)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    server = Server(process, tls=tls)
    reading = threading.Thread(target=server.read_log)
    reading.start()
    try:
        server.port = int(server.wait_for_line(r"running on https?://127\.0\.0\.1:(\d+)")[1])
        server.wait_until_ready()
        yield server
    finally:
        process.kill()
        process.wait()
        reading.join()
