"""An archive job with the real engine: killed half-way and run again, its words, its speed.

    python -m benchmarks.archive --speech DIR/manifest.tsv ... --files 200 > archive.json

1. `asr archive` over the files on two actors, killed (SIGKILL) once rows are on the disk, and run
   again: one row each.
2. The same files to `POST /transcribe` of a server at the same drop: how many texts differ.
3. In turn, several times: an archive job, and two processes of `asr transcribe` that share the list.
   Speed is audio over time from the first result on, so that neither pays for its start, which is
   given beside it: from the first line of the processes, and from the end of the first step of an
   actor, since actors give results by blocks.
"""

import argparse
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError

from benchmarks.hardware import PACKAGES, read_environment
from benchmarks.record import Run, Spread, document
from service.fleet.archive_files import ArchiveFile, list_files
from service.fleet.archive_rows import ArchiveRow
from service.fleet.archive_store import read_rows

PATIENCE_S = 300.0
ACTORS = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """When results came, and of how much audio.

    Args:
        start_s: from the start of the processes to the first result.
        took_s: from then to the last result.
        audio_s: of the results after the first.
    """

    start_s: float
    took_s: float
    audio_s: float

    @classmethod
    def of(cls, started_s: float, results: Sequence[tuple[float, float]]) -> "Pace":
        """Judge by pairs of a time and the audio that was transcribed by then."""
        ordered = sorted(results)
        first_s, last_s = ordered[0][0], ordered[-1][0]
        return cls(
            first_s - started_s, last_s - first_s, sum(audio_s for _, audio_s in ordered[1:])
        )

    @property
    def speed(self) -> float:
        """Times real time."""
        return self.audio_s / self.took_s


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", nargs="+", required=True, help="manifests, folders or globs")
    parser.add_argument("--files", type=int, default=200, help="of them, evenly spread")
    parser.add_argument("--drop", default="0.25")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    files = evenly(list_files(options.speech), options.files)
    started = datetime.now(UTC)
    with TemporaryDirectory(prefix="archive") as folder:
        work = Path(folder)
        manifest = write_list(files, work / "list.tsv")
        killed = kill_and_go_on(manifest, work / "killed", options.drop)
        say(f"killed after {killed['rows_when_killed']} rows, then {killed['rows']} in all")
        rows = {row.path: row for row in read_rows(work / "killed", "parquet")}
        texts = compare_texts(files, rows, options.drop)
        say(f"{texts['equal']} of {len(files)} texts equal")
        speeds = in_turn(files, manifest, work, options)
    run = Run(
        benchmark="archive",
        started=started,
        environment=read_environment((*PACKAGES, "ray", "pyarrow")),
        config={
            "files": len(files),
            "drop": options.drop,
            "actors": ACTORS,
            "cores_per_actor": 1,
            "audio_s": round(sum(row.audio_s for row in rows.values()), 1),
        },
        warm_up=1,
        repeats=options.repeats,
    )
    print(json.dumps(document(run, [killed, texts, speeds])))


def evenly(files: Sequence[ArchiveFile], count: int) -> list[ArchiveFile]:
    """Take so many files out of all, evenly spread."""
    count = min(count, len(files))
    return [files[number * len(files) // count] for number in range(count)]


def write_list(files: Sequence[ArchiveFile], path: Path) -> Path:
    """Write a manifest of files."""
    with path.open("w", encoding="utf-8", newline="") as lines:
        rows = csv.writer(lines, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        rows.writerow(["path"])
        rows.writerows([file.path] for file in files)
    return path


def kill_and_go_on(manifest: Path, out: Path, drop: str) -> dict[str, object]:
    """Run an archive job, kill it once rows are on the disk, and run it again to its end."""
    first = subprocess.Popen(archive_command(manifest, out, drop), stderr=subprocess.DEVNULL)
    enough = (
        len(list_files([str(manifest)])) / 3
    )  # parts are of a few seconds, so this is near half
    wait_until(lambda: num_rows(out) >= enough or first.poll() is not None)
    first.send_signal(signal.SIGKILL)
    first.wait()
    num_before = num_rows(out)
    subprocess.run(archive_command(manifest, out, drop), stderr=subprocess.DEVNULL, check=False)
    paths = [row.path for row in read_rows(out, "parquet")]
    errors = [row for row in read_rows(out, "parquet") if row.error_code]
    return {
        "what": "killed",
        "rows_when_killed": num_before,
        "rows": len(paths),
        "files_with_two_rows": len(paths) - len(set(paths)),
        "error_rows": len(errors),
    }


def num_rows(out: Path) -> int:
    """Count the rows that are on the disk."""
    return sum(1 for _ in read_rows(out, "parquet"))


def compare_texts(
    files: Sequence[ArchiveFile], rows: dict[str, ArchiveRow], drop: str
) -> dict[str, object]:
    """Ask a server for the words of every file, and count those that differ."""
    different: list[str] = []
    with server() as address:
        for file in files:
            request = urllib.request.Request(
                f"{address}/transcribe?drop={drop}", Path(file.path).read_bytes()
            )
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                text: str = json.load(answer)["text"]
            if file.path not in rows or rows[file.path].text != text:
                different.append(Path(file.path).name)
    return {"what": "texts", "equal": len(files) - len(different), "different": different[:10]}


def in_turn(
    files: Sequence[ArchiveFile], manifest: Path, work: Path, options: argparse.Namespace
) -> dict[str, object]:
    """Measure the archive job and the two processes in turn."""
    archive: list[Pace] = []
    apart: list[Pace] = []
    for number in range(options.repeats):
        archive.append(archive_pace(manifest, work / f"out-{number}", options.drop))
        say(f"archive: {archive[-1].speed:.1f}x real time, ready in {archive[-1].start_s:.1f} s")
        apart.append(processes_pace(files, options.drop))
        say(f"processes: {apart[-1].speed:.1f}x real time, first {apart[-1].start_s:.1f} s")
    ratios = [one.speed / other.speed for one, other in zip(archive, apart, strict=True)]
    return {
        "what": "speed",
        "archive_speed": spread([one.speed for one in archive]),
        "processes_speed": spread([one.speed for one in apart]),
        "ratio": spread(ratios),
        "archive_start_s": spread([one.start_s for one in archive]),
        "processes_start_s": spread([one.start_s for one in apart]),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Summarise repeated figures."""
    found = Spread.of(values)
    return {
        "median": round(found.median, 3),
        "low": round(found.low, 3),
        "high": round(found.high, 3),
    }


def archive_pace(manifest: Path, out: Path, drop: str) -> Pace:
    """Run an archive job in a process of its own that says when each row came."""
    return paced([[sys.executable, "-m", "benchmarks.archive_rows", str(manifest), str(out), drop]])


def processes_pace(files: Sequence[ArchiveFile], drop: str) -> Pace:
    """Run two `asr transcribe` that have every second file each."""
    command = [sys.executable, "-m", "service", "transcribe", "--format", "json", "--drop", drop]
    # Largest first, as the archive job has it, so that both end together.
    ordered = sorted(files, key=lambda file: (-file.size_bytes, file.path))
    shares = [[file.path for file in ordered[k::ACTORS]] for k in range(ACTORS)]
    return paced([[*command, *share] for share in shares])


def paced(commands: Sequence[Sequence[str]]) -> Pace:
    """Run commands side by side; each line of JSON they print is a result with `audio_seconds`."""
    started_s = time.monotonic()
    results: list[tuple[float, float]] = []

    def read(process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None, "it was asked for"
        results.extend(result_of(json.loads(line)) for line in process.stdout)

    processes = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
        )
        for command in commands
    ]
    readers = [threading.Thread(target=read, args=(process,)) for process in processes]
    for reader in readers:
        reader.start()
    for reader, process in zip(readers, processes, strict=True):
        reader.join()
        process.wait()
    return Pace.of(started_s, results)


def result_of(line: dict[str, float]) -> tuple[float, float]:
    """Give the time of a result, which is now where the line does not say, and its audio."""
    return float(line.get("at_s", time.monotonic())), float(line["audio_seconds"])


def environment() -> dict[str, str]:
    """Give each process one thread, as an actor has."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}  # noqa: TID251 a program's, for its children


def archive_command(manifest: Path, out: Path, drop: str) -> list[str]:
    """Give the command of an archive job."""
    flags = ["--out", str(out), "--drop", drop, "--actors", str(ACTORS)]
    return [sys.executable, "-m", "service", "archive", str(manifest), *flags]


@contextmanager
def server() -> Generator[str]:
    """Run a server and give its address once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment())

    def ready() -> bool:
        with suppress(URLError, OSError), urllib.request.urlopen(f"{address}/readyz") as answer:
            return answer.status == 200
        return False

    try:
        wait_until(ready)
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_until(condition: "object") -> None:
    """Wait for a condition, not for ever."""
    assert callable(condition), "expected a condition to ask"
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "expected it to come true, got nothing"
        time.sleep(0.05)


def say(line: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
