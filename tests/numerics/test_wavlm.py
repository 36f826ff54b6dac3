"""WavLM against transformers' implementation, from folders as the hub holds them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import model_store
from model_store.backbones.published import build_published
from model_store.backbones.wavlm import WavLM
from model_store.backbones.wavlm_block import RelativeBias
from model_store.backbones.wavlm_names import published_config
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import CheckpointError
from model_store.recipes.convert_wavlm import convert
from model_store.registry.names import published_checkpoint
from model_store.text.bpe import train_bpe
from tests.numerics.backbones import constant, noise

# Importing transformers takes seconds, once.
pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("default")]

LAYERS = 3
LETTERS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4} | {
    letter: 5 + place for place, letter in enumerate("ABCDEFG")
}
SIZES: dict[str, Any] = {
    "vocab_size": len(LETTERS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": LAYERS,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 32,
    "max_bucket_distance": 40,
}
LARGE: dict[str, Any] = {
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "conv_bias": True,
}
KINDS: dict[str, dict[str, Any]] = {"base": {}, "large": LARGE}


@pytest.fixture(scope="module", params=KINDS)
def reference(request: pytest.FixtureRequest) -> Any:
    return made(**KINDS[request.param])


def made(*, head: bool = True, **sizes: Any) -> Any:
    from transformers import WavLMConfig, WavLMForCTC, WavLMModel

    torch.manual_seed(0)
    config = WavLMConfig(**(SIZES | sizes))
    built = WavLMForCTC(config) if head else WavLMModel(config)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return built.eval()


def written(reference: Any, folder: Path, *, pickled: bool = False) -> Path:
    reference.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(LETTERS), encoding="utf-8")
    if pickled:
        weights = folder / "model.safetensors"
        torch.save(reference.state_dict(), folder / "pytorch_model.bin")
        weights.unlink()
    return folder


def ours(folder: Path) -> WavLM:
    model = published_checkpoint(folder).module
    assert isinstance(model, WavLM)
    return model


@torch.inference_mode()
def scores(model: WavLM, samples: tuple[Tensor, Tensor], plan: DepthPlan) -> Tensor:
    encoded = model.encode(*samples, DepthSchedule.constant(plan))
    return model.head(encoded.states_BTD)


@torch.inference_mode()
@pytest.mark.parametrize("pickled", [False, True])
def test_it_computes_what_transformers_does(reference: Any, tmp_path: Path, pickled: bool) -> None:
    model = ours(written(reference, tmp_path, pickled=pickled))
    samples = noise(24_000, 24_000)

    found_BTV = scores(model, samples, DepthPlan.full(LAYERS))

    torch.testing.assert_close(found_BTV, reference(samples[0]).logits, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_normalised_input_is_the_feature_extractors(tmp_path: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    reference = made(**LARGE)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    extractor.save_pretrained(tmp_path)
    model = ours(written(reference, tmp_path))
    samples_BS, lengths_B = noise(24_000)
    loud_BS = 3 * samples_BS + 0.5

    expected = extractor(loud_BS[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    found_BTV = scores(model, (loud_BS, lengths_B), DepthPlan.full(LAYERS))

    assert model.config.normalise_input
    torch.testing.assert_close(
        found_BTV, reference(expected.input_values).logits, rtol=1e-3, atol=1e-3
    )


@torch.inference_mode()
def test_without_layer_0_the_others_keep_their_relative_bias(
    reference: Any, tmp_path: Path
) -> None:
    model = ours(written(reference, tmp_path))
    samples = noise(24_000)
    plan = DepthPlan((0, 1, 1))

    found_BTV = scores(model, samples, plan)

    # The reference with layer 0 made an identity that still hands its bias on.
    encoder = reference.wavlm.encoder
    x_BTD = reference.wavlm.feature_projection(
        reference.wavlm.feature_extractor(samples[0]).transpose(1, 2)
    )[0]
    x_BTD = x_BTD + encoder.pos_conv_embed(x_BTD)
    pre_norm = reference.config.do_stable_layer_norm
    x_BTD = x_BTD if pre_norm else encoder.layer_norm(x_BTD)
    attention = encoder.layers[0].attention
    frames = x_BTD.shape[1]
    bias = attention.compute_bias(frames, frames)
    for layer in encoder.layers[1:]:
        x_BTD, _ = layer(x_BTD, position_bias=bias)
    x_BTD = encoder.layer_norm(x_BTD) if pre_norm else x_BTD
    torch.testing.assert_close(found_BTV, reference.lm_head(x_BTD), rtol=1e-4, atol=1e-4)


def test_the_bias_is_that_of_transformers_at_every_distance() -> None:
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    torch.manual_seed(0)
    reference = WavLMAttention(32, 4, num_buckets=320, max_distance=800)
    bias = RelativeBias(320, 800, 4)
    with torch.no_grad():
        bias.bias_NH.copy_(reference.rel_attn_embed.weight)

    found_HGG = bias(torch.arange(1500).float())

    torch.testing.assert_close(found_HGG, reference.compute_bias(1500, 1500))


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_strided_row_is_as_far_away_as_its_frames(stride: int) -> None:
    bias = RelativeBias(32, 60, 2)
    torch.nn.init.normal_(bias.bias_NH)
    frames_HTT = bias(torch.arange(64).float())

    rows_HGG = bias(torch.arange(0, 64, stride) + (stride - 1) / 2)

    assert torch.equal(rows_HGG, frames_HTT[:, ::stride, ::stride])


def test_a_folder_with_letters_is_loaded_and_transcribes(reference: Any, tmp_path: Path) -> None:
    folder = written(reference, tmp_path / "wavlm-tiny")

    model = model_store.load(str(folder))
    samples = noise(16_000)[0][0].numpy().astype(np.float32)
    full, half = (
        model.transcribe_windows([samples], plan)[0]
        for plan in (DepthPlan.full(LAYERS), DepthPlan((2, 2, 2)))
    )

    assert (model.name, model.num_layers) == ("wavlm-tiny", LAYERS)
    assert set(full.text) <= set("ABCDEFG ")
    assert 0 < half.encoder_flops < full.encoder_flops < full.flops


def test_one_without_a_read_out_is_refused_with_what_gives_it_one(tmp_path: Path) -> None:
    folder = written(made(head=False), tmp_path)

    with pytest.raises(CheckpointError, match=r"without a read-out; .*convert_wavlm"):
        published_checkpoint(folder)


def test_a_new_read_out_is_made_for_a_vocabulary_of_pieces(tmp_path: Path) -> None:
    folder = written(made(head=False), tmp_path / "hub")
    pieces = train_bpe(["a cab faced a bag", "a bad cab"], 48)
    pieces.save(str(tmp_path / "tokenizer.json"))

    convert(folder, tmp_path / "ours", tokens=tmp_path / "tokenizer.json", bypass_rank=4)

    model = model_store.load(str(tmp_path / "ours"))
    assert isinstance(model.backbone, WavLM)
    assert model.backbone.vocabulary == pieces.get_vocab_size()
    assert model.backbone.blank == 0
    assert model.backbone.config.bypass_rank == 4
    assert model.tokenizer.decode(model.tokenizer.encode("A cab")) == "a cab"


def test_a_converted_model_computes_what_the_published_one_does(
    reference: Any, tmp_path: Path
) -> None:
    folder = written(reference, tmp_path / "hub")

    convert(folder, tmp_path / "ours")

    loaded, published = (model_store.load(str(one)) for one in (tmp_path / "ours", folder))
    samples, plan = noise(20_000), DepthPlan((1, 0, 2))
    for model in (loaded, published):
        assert isinstance(model.backbone, WavLM)
    first, second = (scores(m.backbone, samples, plan) for m in (loaded, published))  # pyright: ignore[reportArgumentType]
    assert torch.equal(first, second)
    assert loaded.tokenizer.encode("BAG CAB") == published.tokenizer.encode("BAG CAB")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"add_adapter": True}, "without an adapter"), ({"hidden_act": "relu"}, "with GELU, got")],
)
def test_another_architecture_is_refused(change: dict[str, Any], message: str) -> None:
    sizes = made().config.to_dict() | change

    with pytest.raises(CheckpointError, match=message):
        published_config(sizes)


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    folder = written(made(), tmp_path)
    (folder / "model.safetensors").write_bytes(b"no weights")
    values = json.loads((folder / "config.json").read_text("utf-8"))

    with pytest.raises(CheckpointError, match="expected"):
        build_published(values, folder / "model.safetensors")


def test_layers_skipped_at_random_stay_out_of_it(tmp_path: Path) -> None:
    folder = written(made(layerdrop=1.0), tmp_path)
    model = ours(folder).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in model.encoder.stack.layers:
        layer.block.attention.dropout = 0.0  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]

    trained = model.encode(*noise(9_000), constant(1, 1, 1)).states_BTD
    served = model.eval().encode(*noise(9_000), constant(1, 1, 1)).states_BTD

    torch.testing.assert_close(trained, served)
