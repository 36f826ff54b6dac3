import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from service.cli import main
from service.cli.archive import LINE_EVERY_S, progress_line, summary_line
from service.fleet.archive_job import ArchiveSummary
from service.fleet.archive_progress import ArchiveProgress
from tests.service_kit import FakeClock

SUMMARY = ArchiveSummary(
    num_rows=3,
    num_failed=0,
    num_known=0,
    num_deeper=0,
    num_unreached=0,
    spent_flops=2_500_000_000,
    audio_s=1800.0,
    took_s=10.0,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_ENGINE", "fake")


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed

    status = main(["archive", str(tmp_path), "--out", str(tmp_path / "out")])

    assert status == 2
    assert "expected Ray for an archive job, found none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_place_without_audio_is_a_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["archive", str(tmp_path), "--out", str(tmp_path / "out")])

    assert status == 2
    assert "expected audio files at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--flops-budget", "-1"),
        ("--flops-budget", "inf"),
        ("--flops-budget", "many"),
        ("--actors", "0"),
        ("--cores", "0"),
        ("--format", "csv"),
    ],
)
def test_a_value_that_means_nothing_is_a_wrong_use(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["archive", "in", "--out", "out", flag, value])

    assert flag in capsys.readouterr().err


def test_a_drop_out_of_range_is_a_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", "in", "--out", "out", "--drop", "2"]) == 2
    assert "expected drop to be" in capsys.readouterr().err


def test_the_summary_says_what_was_done() -> None:
    line = summary_line(SUMMARY, Path("out"))

    assert line == ("3 rows written to out, 0.50 h of audio, 180x real time, 2.5e+09 operations")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_known": 5}, "5 were there"),
        ({"num_failed": 2}, "2 failed (see error_code)"),
        ({"num_deeper": 4}, "4 transcribed again deeper"),
        ({"num_unreached": 9}, "9 not reached: the budget is spent"),
    ],
)
def test_the_summary_says_what_was_out_of_the_ordinary(change: dict[str, int], words: str) -> None:
    assert summary_line(replace(SUMMARY, **change), Path("out")).endswith(f", {words}")


def test_progress_is_a_line_now_and_then_where_nobody_watches() -> None:
    clock, err = FakeClock(), io.StringIO()
    progress = ArchiveProgress(clock, 9, 900)
    show = progress_line(err, clock)

    for _ in range(5):
        clock.now_s += LINE_EVERY_S / 2
        show(progress)

    assert err.getvalue() == 2 * f"{progress.line()}\n"


def test_progress_is_redrawn_on_a_terminal() -> None:
    clock, err = FakeClock(), Terminal()
    show = progress_line(err, clock)

    clock.now_s += 1
    show(ArchiveProgress(clock, 9, 900))

    assert err.getvalue().startswith("\r\x1b[K0 of 9 files")
