"""Reading a checkpoint without torch."""

import json
from pathlib import Path

import numpy as np
import pytest

from model_store.checkpoint import load_checkpoint
from model_store.errors import CheckpointError, ModelUnknown
from service.engine.onnx.checkpoint import ACTIVATIONS, Matrix, Weights, open_checkpoint
from tests.onnx_kit import write_checkpoint

SHIPPED = "moonshine-base-elastic"


@pytest.mark.parametrize("int8", [True, False])
def test_parameters_are_those_that_torch_reads(tmp_path: Path, *, int8: bool) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "moonshine-factorised", int8=int8)
    state = load_checkpoint(folder).model.state_dict()

    weights = open_checkpoint(str(folder)).weights()

    matrix = weights.matrix("decoder.layers.0.up").unpacked()
    step = np.abs(matrix).max(axis=1, keepdims=True) / 127
    expected = state["decoder.layers.0.up.weight"].numpy()
    assert (np.abs(matrix - expected) <= (1e-6 if int8 else 0.51) * step + 1e-6).all()
    kernel = weights.matrix("encoder.front_end.conv3").unpacked()
    stored = state["encoder.front_end.conv3.weight"].numpy()
    assert np.abs(kernel - stored.transpose(0, 2, 1).reshape(len(stored), -1)).max() < 0.02
    bias = weights.vector("encoder.front_end.conv3.bias")
    np.testing.assert_allclose(bias, state["encoder.front_end.conv3.bias"].numpy(), rtol=1e-3)


def test_shipped_weights_are_found_by_name() -> None:
    checkpoint = open_checkpoint(SHIPPED)

    assert checkpoint.name == SHIPPED
    assert checkpoint.sizes.encoder_layers == checkpoint.catalogue.num_layers


@pytest.mark.parametrize("name", ["nothing-of-that-name", "some/model", "", "."])
def test_a_name_that_is_no_checkpoint_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelUnknown, match="expected shipped weights or a folder"):
        open_checkpoint(name)


def test_another_backbone_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "whisper")

    with pytest.raises(CheckpointError, match=r"expected the backbone 'moonshine'.*'whisper'"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("field", ["dim", "rotated", "sha256"])
def test_a_config_without_a_size_is_refused(tmp_path: Path, field: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "moonshine")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config[field]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(CheckpointError, match=field):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("file", ["config.json", "plans.json", "decoding.json"])
def test_a_damaged_file_is_named(tmp_path: Path, file: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "moonshine")
    (folder / file).write_text("[", encoding="utf-8")

    with pytest.raises(CheckpointError, match=file):
        open_checkpoint(str(folder))


def test_rows_of_floats_are_packed_by_their_largest_value() -> None:
    rows = np.array([[0.5, -1.27, 0.01], [0, 0, 0]], np.float32)

    packed = Weights({"m.weight": rows}).matrix("m")

    assert packed.weight_NK.tolist() == [[50, -127, 1], [0, 0, 0]]
    np.testing.assert_allclose(packed.unpacked(), rows, atol=0.005)


def test_stacked_matrices_keep_their_rows() -> None:
    one = Matrix(np.ones((2, 3), np.int8), np.ones(2, np.float32))
    other = Matrix(np.full((1, 3), 2, np.int8), np.full(1, 0.5, np.float32))

    assert Matrix.stack([one, other]).unpacked().tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


def test_a_matrix_whose_inputs_nobody_measured_is_not_balanced() -> None:
    weights = Weights({"m.weight": np.array([[1, -2, 4]], np.float32)})

    assert weights.balance("m").tolist() == [1, 1, 1]


def test_inputs_that_reach_far_are_divided_and_their_weights_multiplied() -> None:
    rows = np.array([[1.0, 0.5, 1.0], [0.25, -1.0, 1.0]], np.float32)
    reached = np.array([16.0, 1.0, 1.0], np.float32)
    weights = Weights({"m.weight": rows, "m.reached_K": reached})

    factor_K = weights.balance("m")
    balanced = weights.matrix("m").times(factor_K).unpacked()

    assert factor_K[0] == pytest.approx(4 * factor_K[1], rel=0.02)
    assert np.log(factor_K).sum() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(balanced / factor_K, rows, atol=0.02)


def test_damaged_activations_are_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "moonshine")
    (folder / ACTIVATIONS).write_bytes(b"\0" * 16)

    with pytest.raises(CheckpointError, match="expected weights in 'tiny'"):
        open_checkpoint(str(folder)).weights()
