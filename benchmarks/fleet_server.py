"""A fleet of one replica on one core, and what all of its processes use."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from benchmarks.capacity_server import PinnedServer

STOPPING_S = 60.0


class PinnedFleet(PinnedServer):
    """`asr fleet` under `taskset`: Ray, what streams come in by and the replica share the core.

    Args:
        core: that they run on.
        settings: environment variables of it.
    """

    ingress = "haproxy"

    def __init__(self, core: int, settings: Mapping[str, str]) -> None:
        fleet = {"REPLICAS_MAX": "1", "ASR_FLEET_INGRESS": self.ingress}
        super().__init__(core, {**fleet, **settings}, ("service", "fleet"))

    def cpu_s(self) -> float:
        """CPU seconds of all processes so far; those that have ended do not count."""
        return sum(_cpu_s(pid) for pid in self._processes())

    def memory_bytes(self) -> int:
        """Bytes of memory that are in use, what is shared as often as it is."""
        return sum(_memory_bytes(pid) for pid in self._processes())

    def _processes(self) -> list[int]:
        return [self._process.pid, *descendants(self._process.pid)]

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(STOPPING_S)
        self._reading.join()


class PinnedFleetByRay(PinnedFleet):
    """The same by Ray's proxy."""

    ingress = "ray"


def descendants(pid: int) -> list[int]:
    """Give all processes below one."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, left = list[int](), [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def _stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the third on; none once the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _memory_bytes(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if fields else 0
