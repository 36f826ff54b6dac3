"""A server in a process of its own on one core, and what it uses."""

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType

READY_S = 120.0
POLL_S = 0.1
SERVE = ("service", "serve")
_RUNNING = re.compile(r"running on http://[^:]+:(\d+)")


class PinnedServer:
    """`asr serve` under `taskset`, ready when entered and gone when left.

    Args:
        core: that it runs on.
        settings: environment variables of it.
        program: module and arguments; it takes `--port` and logs where it runs, as the service does.
    """

    def __init__(
        self, core: int, settings: Mapping[str, str], program: Sequence[str] = SERVE
    ) -> None:
        self._environment = {
            **os.environ,  # noqa: TID251 what a child inherits
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        self._command = ["taskset", "-c", str(core), sys.executable, "-m", *program]
        self._log: deque[str] = deque(maxlen=50)
        self._listening = threading.Event()
        self.port = 0

    def __enter__(self) -> "PinnedServer":
        self._process = subprocess.Popen(
            [*self._command, "--port", "0"],
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        try:
            self._wait_until_ready(time.monotonic() + READY_S)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def cpu_s(self) -> float:
        """CPU seconds of the process so far, user and system; see proc_pid_stat(5)."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Bytes of memory that the process has now."""
        statm = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _wait_until_ready(self, deadline_s: float) -> None:
        while time.monotonic() < deadline_s and self._process.poll() is None:
            if self._listening.wait(POLL_S) and self._is_ready():
                return
            time.sleep(POLL_S)
        log = "".join(self._log)
        raise SystemExit(f"expected a server that is ready within {READY_S:g} s, got:\n{log}")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTPStatus.OK
        finally:
            connection.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._log.append(line)
                if not self._listening.is_set() and (found := _RUNNING.search(line)):
                    self.port = int(found[1])
                    self._listening.set()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reading.join()
