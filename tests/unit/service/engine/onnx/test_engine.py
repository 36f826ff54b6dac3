"""The engine behind the seam, on a tiny checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine import choose_engine, create_engine
from service.engine.base import GATE_FRAME_SAMPLES, ListenInput, LiveInput, Window
from service.engine.onnx import build_onnx_engine, create_onnx_engine
from service.engine.onnx.processor import Processor
from service.errors import DropOutOfRange, ModelUnusable, PlanInvalid
from tests.numerics.backbones import NUM_LAYERS
from tests.onnx_kit import windows, write_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "tiny", "moonshine")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_windows_become_segments_with_their_cost(folder: Path, cache: Path) -> None:
    engine = create_onnx_engine(str(folder), num_threads=1, cache=cache)

    info = engine.load()

    assert (info.name, info.layers_total) == ("tiny", NUM_LAYERS)
    (samples,) = windows(20_000)
    silent = Window(np.zeros(16_000, np.float32), 0.0, 1.0, speech=False)
    spoken = Window(samples, 1.0, 2.25, speech=True)
    full = engine.transcribe([silent, spoken], info.offered[0])
    half = engine.transcribe([spoken], engine.choose(0.5, None, "uniform"))
    assert full.segments[0].no_speech
    assert all(1.0 <= word.start_s < word.end_s <= 2.25 for word in full.segments[1].words)
    assert 0 < half.cost.encoder_flops < full.cost.encoder_flops
    assert half.cost.full_flops >= half.cost.flops
    with pytest.raises(DropOutOfRange):
        engine.choose(1.0, None, "ladder")


def test_streams_run_chunk_by_chunk(folder: Path, cache: Path) -> None:
    engine = create_onnx_engine(str(folder), num_threads=1, cache=cache)
    info = engine.load()
    (samples,) = windows(30_000)
    utterance = engine.open_utterance()

    (first,) = engine.step([LiveInput(utterance, samples[:12_000], info.offered[0])])
    (last,) = engine.step([LiveInput(utterance, samples[12_000:], info.offered[-1], ends=True)])

    assert info.chunk_s == pytest.approx(0.576)
    assert (first.encoded_s, last.encoded_s) == (pytest.approx(0.607, abs=1e-3), 30_000 / 16_000)
    assert last.stable_words == len(last.words)
    assert 0 < first.cost.encoder_flops < first.cost.flops <= first.cost.full_flops
    assert last.cost.flops < last.cost.full_flops
    assert utterance.state_bytes > 0


def test_skipped_layers_hold_for_an_utterance(folder: Path, cache: Path) -> None:
    engine = create_onnx_engine(str(folder), num_threads=1, cache=cache)
    info = engine.load()
    (samples,) = windows(12_000)
    utterance = engine.open_utterance()
    engine.step([LiveInput(utterance, samples, info.offered[0])])

    with pytest.raises(PlanInvalid, match="skips what"):
        engine.step([LiveInput(utterance, samples, engine.choose(0.4, None, "skip"))])


def test_the_gate_listens_beside_it(folder: Path, cache: Path) -> None:
    engine = create_onnx_engine(str(folder), num_threads=1, cache=cache)
    engine.load()

    (heard,) = engine.listen([ListenInput(engine.open_listener(), np.zeros(1_600, np.float32))])

    assert len(heard) == 1_600 // GATE_FRAME_SAMPLES
    assert (heard < 0.5).all()


def test_the_name_onnx_is_this_engine(folder: Path, cache: Path) -> None:
    engine = create_engine(
        "onnx", model=str(folder), num_threads=1, cache=cache, fake_realtime_factor=0.0
    )

    assert engine.load().name == "tiny"


@pytest.mark.parametrize("backbone", ["whisper", None])
def test_a_model_it_cannot_run_is_unusable(tmp_path: Path, backbone: str | None) -> None:
    folder = tmp_path / "other"
    if backbone:
        write_checkpoint(folder, backbone)

    with pytest.raises(ModelUnusable, match="expected"):
        create_onnx_engine(str(folder), num_threads=1, cache=tmp_path / "cache").load()
    with pytest.raises(ModelUnusable, match="expected"):
        build_onnx_engine(str(folder), tmp_path / "cache")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what the machine has."""

    def pretend(*, int8: bool = True, gpu: bool = False, missing: str = "") -> None:
        def find(name: str) -> str | None:
            return None if name == missing else name

        processor = Processor(int8_dot_products=int8, bfloat16_tiles=False)
        monkeypatch.setattr("service.engine.onnx.processor.read_processor", lambda: processor)
        monkeypatch.setattr("service.engine.onnx.processor.has_gpu", lambda: gpu)
        monkeypatch.setattr("service.engine.find_spec", find)

    return pretend


def test_auto_is_this_engine_where_bytes_are_multiplied(
    folder: Path, machine: Callable[..., None]
) -> None:
    machine()
    assert choose_engine(str(folder)) == "onnx"
    machine(missing="torch", int8=False)
    assert choose_engine(str(folder)) == "onnx"


@pytest.mark.parametrize(
    "has",
    [{"int8": False}, {"gpu": True}, {"missing": "onnx"}, {"missing": "onnxruntime"}],
    ids=str,
)
def test_auto_is_torch_elsewhere(
    folder: Path, machine: Callable[..., None], has: dict[str, Any]
) -> None:
    machine(**has)

    assert choose_engine(str(folder)) == "torch"


def test_the_device_asked_for_decides_before_the_processor(
    folder: Path, machine: Callable[..., None]
) -> None:
    machine(gpu=True)
    assert choose_engine(str(folder), "cpu") == "onnx"
    machine()
    assert choose_engine(str(folder), "cuda") == "torch"


def test_auto_is_torch_for_a_model_of_another_backbone(
    tmp_path: Path, machine: Callable[..., None]
) -> None:
    machine()

    assert choose_engine(str(write_checkpoint(tmp_path / "other", "whisper"))) == "torch"
    assert choose_engine("somebody/model-of-the-hub") == "torch"
