from pathlib import Path

import pytest

from service.cli import main
from service.engine.onnx.build import build_key, is_whole
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.onnx.processor import Numerics, Processor
from tests.onnx_kit import write_checkpoint


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ASR_ENGINE", raising=False)
    monkeypatch.setenv("ASR_ENGINE_CACHE", str(tmp_path / "cache"))


def test_the_folder_of_what_was_built_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "moonshine")

    status = main(["build-engine", "--engine", "onnx", "--model", str(folder)])

    assert status == 0
    built = Path(capsys.readouterr().out.strip())
    assert built.parent == tmp_path / "cache"
    assert is_whole(built)


def test_an_image_gets_the_files_of_every_processor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "moonshine")
    abilities: list[Numerics] = [
        Processor(int8_dot_products=able, bfloat16_tiles=False).numerics for able in (True, False)
    ]

    main(["build-engine", "--engine", "onnx", "--model", str(folder), "--every-processor"])

    built = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert all(is_whole(one) for one in built)
    assert [one.name for one in built] == [
        build_key(open_checkpoint(str(folder)), numerics) for numerics in abilities
    ]


@pytest.mark.parametrize("engine", ["torch", "fake"])
def test_an_engine_that_runs_models_as_they_are_has_nothing_to_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    assert main(["build-engine", "--engine", engine]) == 0

    assert capsys.readouterr().out == f"the engine {engine} has nothing to build\n"
    assert not (tmp_path / "cache").exists()


def test_a_model_that_is_not_there_is_a_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["build-engine", "--engine", "onnx", "--model", str(tmp_path / "nothing")])

    assert status == 2
    assert capsys.readouterr().err.startswith("asr: expected shipped weights or a folder")
