import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model_store.backbones import SpeechModule
from model_store.checkpoint import (
    SCALE,
    load_checkpoint,
    pack_int8,
    save_checkpoint,
    unpack_int8,
)
from model_store.depth import DepthPlan, PlanCatalogue
from model_store.errors import CheckpointError
from tests.numerics.backbones import BACKBONES, NUM_LAYERS

CATALOGUE = PlanCatalogue(
    NUM_LAYERS,
    (DepthPlan.full(NUM_LAYERS), DepthPlan((2, 2, 4)), DepthPlan((1, 2, 2))),
    (DepthPlan((1, 0, 1)),),
)


@pytest.fixture(scope="module", params=["moonshine-factorised", "whisper"])
def model(request: pytest.FixtureRequest) -> SpeechModule:
    return BACKBONES[request.param].build()


@pytest.fixture
def folder(model: SpeechModule, tmp_path: Path) -> Path:
    save_checkpoint(model, CATALOGUE, tmp_path, int8=True)
    return tmp_path


def rewrite(path: Path, **values: Any) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(stored | values), encoding="utf-8")


def flip_byte(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("int8", [False, True])
def test_a_checkpoint_comes_back_with_its_sizes_and_plans(
    model: SpeechModule, tmp_path: Path, int8: bool
) -> None:
    save_checkpoint(model, CATALOGUE, tmp_path, int8=int8)

    loaded = load_checkpoint(tmp_path)

    assert type(loaded.model) is type(model)
    assert loaded.model.config == model.config
    assert loaded.catalogue == CATALOGUE
    assert loaded.decoding == {}
    assert not loaded.model.training
    assert all(value.dtype == torch.float32 for value in loaded.model.parameters())


def test_what_int8_stores_comes_back_from_a_second_saving_unchanged(
    folder: Path, tmp_path: Path
) -> None:
    once = load_checkpoint(folder).model

    save_checkpoint(once, CATALOGUE, tmp_path / "again", int8=True)
    twice = load_checkpoint(tmp_path / "again").model

    for one, other in zip(once.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_what_was_found_on_a_model_is_read_along(folder: Path) -> None:
    (folder / "decoding.json").write_text('{"end_offset_s": 0.1}', encoding="utf-8")

    assert load_checkpoint(folder).decoding == {"end_offset_s": 0.1}


def test_saving_leaves_other_files_and_no_partial_ones(model: SpeechModule, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("a card", encoding="utf-8")

    save_checkpoint(model, CATALOGUE, tmp_path)

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors", "plans.json"}


@pytest.mark.parametrize("place", [0, 60, -1])
def test_a_flipped_bit_in_the_weights_is_noticed(folder: Path, place: int) -> None:
    flip_byte(folder / "model.safetensors", place)

    with pytest.raises(CheckpointError, match=r"weights with SHA-256 \w{64}, got \w{64}"):
        load_checkpoint(folder)


def test_cut_weights_are_noticed_without_a_digest_too(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    rewrite(folder / "config.json", sha256=None)

    with pytest.raises(CheckpointError, match=r"expected a .* checkpoint in"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "plans.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()

    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "plans.json", "decoding.json"])
@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_file_is_named(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")

    with pytest.raises(CheckpointError, match=f"in '{name}'"):
        load_checkpoint(folder)


@pytest.mark.parametrize("backbone", ["wavenet", None, []])
def test_an_unknown_backbone_is_refused_with_the_known_ones(folder: Path, backbone: object) -> None:
    rewrite(folder / "config.json", backbone=backbone)

    with pytest.raises(
        CheckpointError, match=r"out of \['conformer', 'moonshine', .*'wavlm', 'whisper'\], got "
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("sizes", [{"dim": 48}, {"colour": 3}, {"encoder_layers": 1}])
def test_sizes_that_do_not_fit_the_weights_are_refused(folder: Path, sizes: dict[str, int]) -> None:
    rewrite(folder / "config.json", **sizes)

    with pytest.raises(CheckpointError, match=r"expected a .* checkpoint in"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "plans",
    [
        {"ladder": ["1,1,1"]},
        {"ladder": ["2,2,2"], "skip": []},
        {"ladder": ["1,1,1", "1,1"], "skip": []},
        {"ladder": ["1,1,1", "1,3,1"], "skip": []},
        {"ladder": [[1, 1, 1]], "skip": []},
        {"ladder": 3, "skip": []},
    ],
)
def test_plans_of_another_model_are_refused(folder: Path, plans: dict[str, object]) -> None:
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"expected plans of 3 layers in 'plans\.json', got"):
        load_checkpoint(folder)


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9_999)))
    shape = draw(st.sampled_from([(3, 7), (5, 1), (2, 3, 4)]))
    rows_R1 = torch.randn(shape[0], generator=generator).exp().view(-1, *[1] * (len(shape) - 1))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e4]))
    return scale * rows_R1 * torch.randn(shape, generator=generator)


@given(matrices())
def test_int8_is_off_by_half_a_step_of_its_row_at_most(matrix: Tensor) -> None:
    packed = pack_int8({"layer.weight": matrix})
    back = unpack_int8(packed)["layer.weight"]

    step_R = matrix.flatten(1).abs().amax(1) / 127
    error_R = (back - matrix).flatten(1).abs().amax(1)
    assert packed["layer.weight"].dtype == torch.int8
    assert bool((error_R <= step_R * 0.5001).all())


def test_a_row_of_zeros_stays_zero() -> None:
    packed = pack_int8({"layer.weight": torch.zeros(2, 3)})

    assert not unpack_int8(packed)["layer.weight"].any()


def test_all_but_matrices_is_stored_as_float16() -> None:
    state = {"norm.weight": torch.randn(4), "pool_RD": torch.rand(2, 4), "up.bias": torch.rand(3)}

    packed = pack_int8(state)

    assert set(packed) == set(state)
    assert all(value.dtype == torch.float16 for value in packed.values())
    assert not any(name.endswith(SCALE) for name in packed)
    for name, value in unpack_int8(packed).items():
        torch.testing.assert_close(value, state[name], rtol=1e-3, atol=1e-3)


def test_float32_passes_through_unpacking() -> None:
    state = {"up.weight": torch.randn(3, 4), "norm.weight": torch.randn(4)}

    assert all(torch.equal(value, state[name]) for name, value in unpack_int8(state).items())
