import io
import subprocess
import sys
from pathlib import Path

import pytest

from service.api.keys import Caller, Tier, read_keys
from service.cli import main
from service.cli.transcribe import TranscribeCommand, run
from service.engine.base import DepthChoice
from service.engine.fake import FakeEngine
from service.errors import ModelUnusable
from tests.service_kit import wav_bytes


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_ENGINE", "fake")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav_bytes(2.0))
    return path


def test_a_file_becomes_words_on_stdout(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["transcribe", str(recording)])

    assert status == 0
    assert capsys.readouterr() == ("alpha bravo charlie delta\n", "")


def test_the_dial_and_the_format_are_arguments(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["transcribe", str(recording), "--drop", "0.5", "--max-drop", "0.5", "--format", "srt"])

    assert capsys.readouterr().out == ("1\n00:00:00,000 --> 00:00:02,000\num bravo um delta\n")


def test_progress_is_one_line_that_is_wiped_at_the_end(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["transcribe", str(recording), "--progress"])

    captured = capsys.readouterr()
    assert captured.out == "alpha bravo charlie delta\n"
    assert "\rtalk.wav: 0:02 done, 100 % of the file read, " in captured.err.replace("\x1b[K", "")
    assert captured.err.endswith("\r\x1b[K")
    assert "\n" not in captured.err


def test_a_file_that_cannot_be_used_is_named_and_the_others_go_on(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not audio")
    missing = tmp_path / "missing.wav"

    status = main(["transcribe", str(broken), str(missing), str(recording), "--format", "json"])

    captured = capsys.readouterr()
    assert status == 1
    assert captured.out.count("alpha bravo charlie delta") == 1
    assert f"asr: {broken}: expected a PCM wav file" in captured.err
    assert "(audio_undecodable)" in captured.err
    assert f"asr: {missing}: No such file or directory" in captured.err


def test_hotwords_are_written_where_the_model_nearly_would_have(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", str(recording), "--drop", "0.5", "--hotwords", "Alpha,zebra"]) == 0
    assert capsys.readouterr().out.startswith("Alpha bravo um delta")


def test_hotwords_that_cannot_be_used_are_a_wrong_use(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", str(recording), "--hotwords", "x" * 65]) == 2
    assert "expected hotwords of at most 64 characters, got one of 65" in capsys.readouterr().err


def test_silence_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silence = tmp_path / "silence.wav"
    silence.write_bytes(wav_bytes(2.0, peak=0.0))

    assert main(["transcribe", str(silence)]) == 0
    assert capsys.readouterr().out == ""


def test_a_model_that_cannot_be_loaded_is_said_to_be_so(recording: Path) -> None:
    def fail() -> None:
        raise ModelUnusable("expected a model, got none")

    command = TranscribeCommand(
        (recording,), DepthChoice(), "text", progress=False, batch_windows=1
    )
    out, err = io.StringIO(), io.StringIO()

    assert run(command, FakeEngine(before_load=fail), out, err) == 1
    assert err.getvalue() == "asr: expected a model, got none\n"


@pytest.mark.parametrize("drop", ["1", "abc", "nan"])
def test_a_drop_out_of_range_is_a_wrong_use(
    drop: str, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["transcribe", str(recording), "--drop", drop])

    assert status == 2
    assert "expected drop to be 'auto' or a number in [0, 1)" in capsys.readouterr().err


def test_a_setting_that_is_wrong_is_a_wrong_use(
    recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_NONSENSE", "1")

    assert main(["transcribe", str(recording)]) == 2
    assert "'ASR_NONSENSE'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["transcribe"], ["sing"], ["transcribe", "--format=x"]])
def test_a_wrong_command_line_explains_itself(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)

    assert stopped.value.code == 2
    assert "usage: asr" in capsys.readouterr().err


def test_help_needs_nothing_heavy() -> None:
    probe = (
        "import sys\n"
        "from service.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'fastapi', 'numpy', 'pydantic', 'uvicorn'}\n"
        "sys.exit(len(heavy & set(sys.modules)))"
    )

    finished = subprocess.run(
        [sys.executable, "-c", probe], check=False, capture_output=True, text=True
    )

    assert finished.returncode == 0
    assert "transcribe" in finished.stdout


@pytest.mark.parametrize("tier", ["standard", "priority"])
def test_a_new_key_is_told_apart_from_the_line_that_lets_it_in(
    tier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["new-key", "web", "--tier", tier])

    line, told = capsys.readouterr()
    key = told.split()[-1]
    assert status == 0
    assert read_keys([line]).find(key) == Caller("web", Tier(tier))
    assert key not in line


def test_nobody_gets_a_key_under_a_name_that_no_line_can_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["new-key", "a b"]) == 2
    assert capsys.readouterr().out == ""
