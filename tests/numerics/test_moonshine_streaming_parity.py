"""Moonshine Streaming against transformers' implementation, on small models with random weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

import model_store
from model_store.backbones.moonshine_streaming import MoonshineStreaming
from model_store.checkpoint import load_checkpoint
from model_store.decoding.greedy import decode_greedy
from model_store.depth import DepthPlan
from model_store.errors import CheckpointError
from model_store.recipes import convert_moonshine_streaming
from model_store.registry.names import published_checkpoint
from tests.numerics.backbones import constant, encode, noise, valid_rows, write_tokenizer

# Importing transformers takes seconds, once.
pytestmark = pytest.mark.timeout(120)

NUM_LAYERS = 3
FULL = constant(1, 1, 1)
HUB_NAME = "UsefulSensors/moonshine-streaming-tiny"
ENCODER: Mapping[str, Any] = {
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 12,
    "sliding_windows": ((16, 4), (16, 0), (16, 4)),
}
DECODER: Mapping[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "decoder_start_token_id": 1,
}
ROTARY: Mapping[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0}
VARIANTS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "own-widths": ({}, {}),
    "equal-widths": ({"hidden_size": 32, "head_dim": 8}, {"tie_word_embeddings": True}),
    "other-windows": (
        {"sliding_windows": ((9, 1), (17, 5), (5, 3))},
        {"decoder_start_token_id": None},
    ),
    "odd-rotation": (
        {},
        {"hidden_size": 24, "rope_parameters": {**ROTARY, "partial_rotary_factor": 0.9}},
    ),
}


@pytest.fixture(scope="module", params=VARIANTS)
def reference(request: pytest.FixtureRequest) -> Any:
    return made(*VARIANTS[request.param])


@pytest.fixture(scope="module")
def plain() -> Any:
    return made({}, {})


def made(encoder: Mapping[str, Any], decoder: Mapping[str, Any]) -> Any:
    from transformers import MoonshineStreamingConfig, MoonshineStreamingForConditionalGeneration

    torch.manual_seed(0)
    inner = {**ENCODER, **encoder}
    config = MoonshineStreamingConfig(encoder_config=inner, **{**DECODER, **decoder})
    model: Any = MoonshineStreamingForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def written(reference: Any, folder: Path) -> Path:
    reference.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def ours(reference: Any, folder: Path) -> MoonshineStreaming:
    model = published_checkpoint(written(reference, folder)).model
    assert isinstance(model, MoonshineStreaming)
    return model


def all_heard(samples_BS: Tensor) -> Tensor:
    # Without a mask transformers leaves the windows out as well.
    return torch.ones_like(samples_BS, dtype=torch.long)


@torch.inference_mode()
def test_the_encoder_computes_what_transformers_does(reference: Any, tmp_path: Path) -> None:
    samples_BS, num_samples_B = noise(48_000, 48_000)

    expected = reference.model.encoder(samples_BS, attention_mask=all_heard(samples_BS))
    found = encode(ours(reference, tmp_path), samples_BS, num_samples_B, FULL)

    assert found.num_frames_B.tolist() == [150, 150]
    torch.testing.assert_close(found.states_BTD, expected.last_hidden_state, rtol=0, atol=2e-6)


@torch.inference_mode()
def test_the_decoder_computes_what_transformers_does(reference: Any, tmp_path: Path) -> None:
    samples_BS, num_samples_B = noise(16_000, 16_000)
    token_BU = torch.tensor([[1, 7, 9, 11, 3], [1, 40, 5, 5, 59]])
    expected_BUV = reference(
        input_values=samples_BS,
        attention_mask=all_heard(samples_BS),
        decoder_input_ids=token_BU,
    ).logits

    model = ours(reference, tmp_path)
    encoded = encode(model, samples_BS, num_samples_B, FULL)
    cache = model.decoder.begin(model.decoder.pool(encoded), token_BU.shape[1])
    found_BUV = model.decoder.logits(model.decoder(token_BU, cache))

    torch.testing.assert_close(found_BUV, expected_BUV, rtol=0, atol=5e-6)


@torch.inference_mode()
def test_greedy_tokens_are_those_of_transformers(reference: Any, tmp_path: Path) -> None:
    samples_BS, num_samples_B = noise(48_000, 48_000)
    limit = 12
    expected_BU = reference.generate(
        input_values=samples_BS,
        attention_mask=all_heard(samples_BS),
        max_new_tokens=limit,
        do_sample=False,
    )

    model = ours(reference, tmp_path)
    encoded = encode(model, samples_BS, num_samples_B, FULL)
    found = decode_greedy(model, encoded, [limit, limit], model.config.end_token)

    for hypothesis, tokens in zip(found, expected_BU.tolist(), strict=True):
        assert [1, *hypothesis.tokens] == tokens[: 1 + len(hypothesis.tokens)]
        assert len(hypothesis.tokens) == limit or hypothesis.ended


@torch.inference_mode()
@pytest.mark.parametrize("lengths", [(20_000, 7_777), (1_000, 5_043), (80, 640)])
def test_a_padded_batch_computes_what_transformers_does_alone(
    plain: Any, tmp_path: Path, lengths: tuple[int, int]
) -> None:
    samples_BS, num_samples_B = noise(*lengths)

    together = encode(ours(plain, tmp_path), samples_BS, num_samples_B, FULL)

    for row, states_TD in enumerate(valid_rows(together)):
        # Its own processor fills the last step up, which the mask then leaves out.
        alone_BS = samples_BS[row : row + 1, : lengths[row] // 80 * 80]
        expected = plain.model.encoder(alone_BS, attention_mask=all_heard(alone_BS))
        torch.testing.assert_close(states_TD, expected.last_hidden_state[0], rtol=0, atol=5e-6)


def test_the_windows_are_those_of_transformers(plain: Any, tmp_path: Path) -> None:
    # A frame itself counts among the 16; the frame 4 ahead is the first one not heard.
    assert ours(plain, tmp_path).config.windows == ((15, 3), (15, 0), (15, 3))


def test_the_hub_name_loads_it(plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetched(name: str, **_: object) -> str:
        asked.append(name)
        return str(written(plain, tmp_path))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)

    recogniser = model_store.load(HUB_NAME)

    assert asked == [HUB_NAME]
    assert recogniser.name == HUB_NAME
    samples = noise(16_000)[0][0].numpy()
    full, half = (
        recogniser.transcribe_windows([samples], DepthPlan((stride,) * NUM_LAYERS))[0]
        for stride in (1, 2)
    )
    assert full.encoder_flops == full.full_flops - (full.flops - full.encoder_flops)
    assert half.encoder_flops < full.encoder_flops


def test_strides_that_wait_too_long_are_not_offered(plain: Any, tmp_path: Path) -> None:
    catalogue = published_checkpoint(written(plain, tmp_path)).catalogue

    assert [str(plan) for plan in catalogue.offered] == ["1,1,1", "2,2,2", "4,4,4"]
    assert catalogue.plans("skip")[-1] == DepthPlan((1, 0, 0))


def test_the_recipe_writes_a_checkpoint_of_equal_states(plain: Any, tmp_path: Path) -> None:
    source = written(plain, tmp_path / "hub")
    published = published_checkpoint(source)

    convert_moonshine_streaming.convert(source, tmp_path / "ours")

    converted = load_checkpoint(tmp_path / "ours")
    assert converted.model.config == published.model.config
    assert converted.catalogue == published.catalogue
    assert (tmp_path / "ours" / "tokenizer.json").is_file()
    states = [encode(model, *noise(9_000), FULL) for model in (converted.model, published.model)]
    assert torch.equal(states[0].states_BTD, states[1].states_BTD)


def test_the_recipe_refuses_another_backbone(tmp_path: Path) -> None:
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration

    sizes: Any = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 60}
    other: Any = MoonshineForConditionalGeneration(MoonshineConfig(**sizes))
    written(other, tmp_path)

    with pytest.raises(CheckpointError, match="expected a moonshine_streaming model, got moons"):
        convert_moonshine_streaming.convert(tmp_path, tmp_path / "ours")


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("encoder_config", "frame_ms", 10.0),
        ("encoder_config", "hidden_act", "relu"),
        ("encoder_config", "num_key_value_heads", 2),
        ("encoder_config", "sliding_windows", [[16, 4]]),
        ("rope_parameters", "rope_theta", 500.0),
        ("", "attention_bias", True),
        ("", "head_dim", 16),
        ("", "eos_token_id", [2, 3]),
        ("", "encoder_config", None),
        ("", "hidden_size", 48),
    ],
)
def test_another_architecture_is_refused(
    plain: Any, tmp_path: Path, place: str, name: str, value: object
) -> None:
    written(plain, tmp_path)
    config = tmp_path / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    (values[place] if place else values)[name] = value
    config.write_text(json.dumps(values), encoding="utf-8")

    with pytest.raises(CheckpointError, match="expected the weights of a moonshine_streaming mod"):
        published_checkpoint(tmp_path)


def test_weights_without_a_head_are_refused_where_one_is_promised(
    plain: Any, tmp_path: Path
) -> None:
    weights = written(plain, tmp_path) / "model.safetensors"
    state = load_file(weights)
    del state["proj_out.weight"]
    save_file(state, weights)

    with pytest.raises(CheckpointError, match="expected the weights of a moonshine_streaming mod"):
        published_checkpoint(tmp_path)
