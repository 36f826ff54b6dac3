"""What tests of the fleet stand on: `asr fleet` in a process of its own, and streams that resume."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fleet_server import descendants
from service.cli.resume_state import Message, Missing
from service.cli.resuming import Patience, ResumingStream
from tests.stream_kit import packets, sound

START_PATIENCE_S = 90.0
END_PATIENCE_S = 60.0
PACKET_S = 0.1
REPLICA = "ray::ServeReplica"
LISTENING = "0A"
LOOPBACKS = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@dataclass
class Fleet:
    """A started fleet.

    Args:
        process: of the command.
        url: where it serves.
        log: file that it writes to.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=10)

    def replicas(self) -> list[dict[str, Any]]:
        """What the replicas say of themselves."""
        return self.get("/fleet").json()["replicas"]

    def wait(
        self, holds: Callable[[list[dict[str, Any]]], bool], what: str, patience_s: float = 20.0
    ) -> None:
        """Wait until a condition on the replicas holds."""
        deadline_s = time.monotonic() + patience_s
        while not holds(replicas := self.replicas()):
            assert time.monotonic() < deadline_s, f"expected {what}, got {replicas}"
            time.sleep(0.2)

    def processes(self, title: str) -> list[int]:
        """The processes of this fleet whose title begins so."""
        return [one for one in descendants(self.process.pid) if title_of(one).startswith(title)]

    def stop(self) -> int:
        """Tell it to stop, wait, and give its status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_PATIENCE_S)


@contextmanager
def fleet(**variables: str) -> Generator[Fleet]:
    """Run `asr fleet` with the fake engine on a free port."""
    port = _free_port()
    environment = {
        **os.environ,  # noqa: TID251 the process needs a PATH and a HOME
        "ASR_ENGINE": "fake",
        "PORT": str(port),
        **variables,
    }
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", "fleet"],
                env=environment,
                stdout=file,
                stderr=file,
            )
        running = Fleet(process, f"http://127.0.0.1:{port}", log)
        try:
            _wait_until_ready(running)
            yield running
        finally:
            if process.poll() is None:
                running.stop()


def title_of(pid: int) -> str:
    """The command line of a process, as it is now; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def open_doors(pids: list[int]) -> set[str]:
    """The addresses beyond loopback on which processes listen, as the kernel writes them."""
    inodes: set[str] = set()
    for pid in pids:
        try:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                inodes.add(str(link.readlink()))
        except OSError:
            continue
    doors: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text("utf-8").splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTENING and f"socket:[{rest[5]}]" in inodes:
                doors.add(local.split(":")[0])
    return doors - LOOPBACKS


@dataclass
class Heard:
    """What a stream was told, over all its connections."""

    messages: list[Message] = field(default_factory=list[Message])
    missing: list[Missing] = field(default_factory=list[Missing])

    def tell(self, message: Message) -> None:
        self.messages.append(message)

    def miss(self, missing: Missing) -> None:
        self.missing.append(missing)

    def wait(self, reason: str) -> None:
        del reason

    def all(self, kind: str) -> list[Message]:
        return [one for one in self.messages if one["type"] == kind]

    @property
    def finals(self) -> list[tuple[int, str]]:
        """Number and words of each final."""
        return [(one["utt"], one["text"]) for one in self.all("final")]


def sentences(num: int) -> bytes:
    """Stretches of speech of different lengths between pauses."""
    parts = [((1.0 + 0.5 * (number % 4), 0.1), (1.0, 0.0)) for number in range(num)]
    return sound((0.3, 0.0), *[part for pair in parts for part in pair])


async def play(
    fleet: Fleet, pcm: bytes, heard: Heard | None = None, give_up_s: float = 30.0
) -> Heard:
    """Play sound in real time over as many connections as it takes."""
    heard = heard or Heard()
    url = fleet.url.replace("http", "ws", 1) + "/v1/stream?drop=0"
    stream = ResumingStream(url, fleet.url, heard, patience=Patience(give_up_s=give_up_s))

    async def paced() -> AsyncGenerator[bytes]:
        began_s = time.monotonic()
        for number, packet in enumerate(packets(pcm)):
            await asyncio.sleep(max(0.0, began_s + number * PACKET_S - time.monotonic()))
            yield packet

    await stream.run(paced())
    return heard


async def outlive_a_killed_replica(running: Fleet) -> None:
    """Kill one of two replicas under seven streams; all of them are heard to the end, word for word."""
    streams = [asyncio.create_task(play(running, sentences(6))) for _ in range(7)]
    await asyncio.sleep(4)
    victim = running.processes(REPLICA)[0]
    os.kill(victim, signal.SIGKILL)
    heard = await asyncio.gather(*streams)

    assert {len(one.all("ready")) for one in heard} == {1, 2}  # some had to begin again
    assert not any(one.missing for one in heard)
    assert {tuple(one.finals) for one in heard} == {tuple(heard[0].finals)}
    assert [number for number, _ in heard[0].finals] == list(range(6))
    assert victim not in running.processes(REPLICA)
    await asyncio.to_thread(running.wait, lambda replicas: len(replicas) == 2, "two replicas again")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(fleet: Fleet) -> None:
    deadline_s = time.monotonic() + START_PATIENCE_S
    while True:
        assert fleet.process.poll() is None, fleet.log.read_text("utf-8")
        assert time.monotonic() < deadline_s, fleet.log.read_text("utf-8")
        try:
            if fleet.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
