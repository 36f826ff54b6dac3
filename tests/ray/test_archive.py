"""Archive jobs on a real Ray of this machine, with the fake engine."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.engine.base import DepthChoice, Engine
from service.engine.fake import FakeEngine
from service.fleet.archive_cluster import Actors, cluster
from service.fleet.archive_files import list_files
from service.fleet.archive_job import ArchiveJob, ArchiveRun, ArchiveSummary
from service.fleet.archive_rows import ArchiveRow
from service.fleet.archive_worker import Dial
from service.settings import Settings
from tests.archive_kit import archive_of, job_of, rows_in
from tests.service_kit import FakeClock, running, wav_bytes

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own, at its own code
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ROOT = Path(__file__).parents[2]
DROP = 0.5
DEADLY_S = 7.0
"""Length of a window over which an engine of these tests ends its process."""
SETTINGS = Settings(engine="fake")
PATIENCE_S = 60


@pytest.fixture(scope="module")
def actors() -> Generator[Actors]:
    with cluster(None, 2, 1) as count:
        yield Actors(SETTINGS, Dial("ladder"), count, 1, deadly_engine)
    gc.collect()  # now, while what Ray left open is passed over


def deadly_engine(_settings: Settings) -> Engine:
    def end_over(windows: object, _plan: object) -> None:
        if any(window.end_s - window.start_s == DEADLY_S for window in windows):  # type: ignore[attr-defined]
            os._exit(1)

    return FakeEngine(before_step=end_over)


def go(job: ArchiveJob, actors: Actors) -> ArchiveSummary:
    return ArchiveRun(job, actors.run, FakeClock(), lambda _progress: None).go()


@dataclass(frozen=True, slots=True)
class Archive:
    """What one job made of good files and five broken ones."""

    uploads: dict[str, bytes]
    rows: dict[str, ArchiveRow]
    summary: ArchiveSummary


@pytest.fixture(scope="module")
def archive(actors: Actors, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    tmp_path = tmp_path_factory.mktemp("archive")
    folder = tmp_path / "in"
    archive_of(folder, *[1 + number / 2 for number in range(12)], 40.0)
    uploads = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "empty.wav").touch()
    (folder / "noise.wav").write_bytes(b"no audio at all")
    (folder / "cut.wav").write_bytes(wav_bytes(1)[:-99])
    (folder / "rate.wav").write_bytes(wav_bytes(1, rate_hz=400_000))
    (folder / "gone.wav").write_bytes(wav_bytes(1))
    files = list_files([str(folder)])
    (folder / "gone.wav").unlink()
    job = job_of(files, tmp_path / "out", choice=DepthChoice(DROP), form="parquet")

    summary = go(job, actors)

    return Archive(uploads, rows_in(tmp_path / "out", "parquet"), summary)


async def test_every_file_has_the_words_that_the_service_gives(archive: Archive) -> None:
    async with running(FakeEngine()) as service:
        answers = {
            name: (await service.transcribe(f"drop={DROP}", upload)).json()
            for name, upload in archive.uploads.items()
        }

    for name, answer in answers.items():
        row = archive.rows[name]
        assert row.text == answer["text"] != ""
        assert (row.flops, row.layers) == (answer["flops"], answer["layers"])


def test_broken_files_are_error_rows(archive: Archive) -> None:
    assert {name: row.error_code for name, row in archive.rows.items() if row.error_code} == {
        "cut.wav": "audio_truncated",
        "empty.wav": "audio_empty",
        "gone.wav": "file_unreadable",
        "noise.wav": "audio_undecodable",
        "rate.wav": "audio_format_unsupported",
    }


def test_every_file_has_one_row(archive: Archive) -> None:
    assert len(archive.rows) == 18
    assert (archive.summary.num_rows, archive.summary.num_failed) == (18, 5)


def test_a_run_that_is_killed_and_run_again_leaves_one_row_each(
    actors: Actors, tmp_path: Path
) -> None:
    files, out = archive_of(tmp_path / "in", *[4.0] * 80), tmp_path / "out"
    arguments = [str(tmp_path / "in"), "--out", str(out), "--drop", "0", "--format", "jsonl"]
    # Sockets lie in it, whose paths may not be long.
    temporary = tempfile.mkdtemp(prefix="ray")
    slow = {
        **os.environ,  # noqa: TID251 for the process, which is none of ours to set up
        "ASR_FAKE_REALTIME_FACTOR": "0.05",
        "RAY_TMPDIR": temporary,
        "ASR_MODEL": "fake",
    }
    killed = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "service",
            "archive",
            *arguments,
            "--engine",
            "fake",
            "--actors",
            "2",
        ],
        cwd=ROOT,
        env=slow,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _until(lambda: list(out.glob("part-*.jsonl")))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    num_before = len(rows_in(out))
    _until(lambda: not _processes_with(temporary))

    shutil.rmtree(temporary)

    summary = go(job_of(files, out), actors)

    assert 0 < num_before < 80
    assert (summary.num_known, summary.num_rows) == (num_before, 80 - num_before)
    rows = rows_in(out)
    assert len(rows) == 80
    assert {row.text for row in rows.values()} == {
        "alpha bravo charlie delta echo foxtrot golf hotel"
    }


def test_a_file_that_ends_its_actor_is_an_error_row_and_the_others_have_words(
    actors: Actors, tmp_path: Path
) -> None:
    files = archive_of(tmp_path / "in", 1, 1, DEADLY_S, 1)

    summary = go(job_of(files, tmp_path / "out"), actors)

    rows = rows_in(tmp_path / "out")
    assert {name: (row.text, row.error_code) for name, row in rows.items()} == {
        "00.wav": ("alpha bravo", ""),
        "01.wav": ("alpha bravo", ""),
        "02.wav": ("", "worker_died"),
        "03.wav": ("alpha bravo", ""),
    }
    assert (summary.num_rows, summary.num_failed) == (4, 1)


def _until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "expected it to come true, got nothing"
        time.sleep(0.05)


def _processes_with(text: str) -> list[str]:
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended
        if text in command:
            found.append(command)
    return found
