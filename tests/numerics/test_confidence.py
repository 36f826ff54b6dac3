"""The map of confidence beside the weights reaches every word: files, partials, finals, both engines."""

import json
from pathlib import Path
from typing import Any

import pytest

from model_store.checkpoint import load_checkpoint
from model_store.decoding.confidence import KEY, ConfidenceMap
from model_store.decoding.live_step import LiveRequest
from model_store.depth import DepthPlan
from model_store.errors import CheckpointError
from model_store.registry import Recogniser
from model_store.registry.live import LiveRecogniser
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.onnx.live import create_live_runner
from service.engine.onnx.recogniser import OnnxRecogniser
from tests.live_kit import recogniser, speech
from tests.numerics.backbones import NUM_LAYERS

FULL = DepthPlan.full(NUM_LAYERS)
MAP = ConfidenceMap(word=0.7, utterance=0.5, offset=-0.4)


class Engines:
    """One tiny checkpoint, without a map and with one, on both engines."""

    def __init__(self, root: Path) -> None:
        recogniser(root / "raw", "moonshine-factorised", int8=True)
        mapped = root / "mapped"
        mapped.mkdir()
        for path in (root / "raw").iterdir():
            (mapped / path.name).write_bytes(path.read_bytes())
        decoding = json.loads((mapped / "decoding.json").read_text(encoding="utf-8"))
        decoding[KEY] = MAP.as_json()
        (mapped / "decoding.json").write_text(json.dumps(decoding), encoding="utf-8")
        self.root = root

    def torch(self, name: str) -> Recogniser:
        return Recogniser(name, load_checkpoint(self.root / name), "float32")

    def onnx(self, name: str) -> OnnxRecogniser:
        checkpoint = open_checkpoint(str(self.root / name))
        return OnnxRecogniser(checkpoint, self.root / "cache", "float32", 1)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    return Engines(tmp_path_factory.mktemp("engines"))


def live_runner(engines: Engines, engine: str, name: str) -> Any:
    if engine == "torch":
        return LiveRecogniser(engines.torch(name))
    return create_live_runner(engines.onnx(name))


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_words_of_files(engines: Engines, engine: str) -> None:
    raw, mapped = (
        (engines.torch if engine == "torch" else engines.onnx)(name).transcribe_windows(
            [speech(24_000)], FULL
        )[0]
        for name in ("raw", "mapped")
    )

    assert raw.words
    assert mapped.text == raw.text
    assert [word.confidence for word in mapped.words] == pytest.approx(
        MAP([word.confidence for word in raw.words])
    )


@pytest.mark.parametrize("second_pass", [False, True])
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_words_of_partials_and_finals(engines: Engines, engine: str, *, second_pass: bool) -> None:
    told: dict[str, list[list[float]]] = {}
    for name in ("raw", "mapped"):
        runner = live_runner(engines, engine, name)
        utterance = runner.open_utterance()
        (partial,) = runner.step([LiveRequest(utterance, speech(40_000), FULL)])
        (final,) = runner.step(
            [LiveRequest(utterance, speech(2_000), FULL, ends=True, second_pass=second_pass)]
        )
        told[name] = [[word.confidence for word in result.words] for result in (partial, final)]

    assert all(told["raw"])
    for raw, mapped in zip(told["raw"], told["mapped"], strict=True):
        assert mapped == pytest.approx(MAP(raw))


def test_a_damaged_map_is_refused(engines: Engines, tmp_path: Path) -> None:
    for path in (engines.root / "raw").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "decoding.json").write_text('{"confidence": {"word": 1}}', encoding="utf-8")

    with pytest.raises(CheckpointError, match="expected numbers"):
        Recogniser("damaged", load_checkpoint(tmp_path), "float32")
    with pytest.raises(CheckpointError, match="expected numbers"):
        OnnxRecogniser(open_checkpoint(str(tmp_path)), engines.root / "cache", "float32", 1)
