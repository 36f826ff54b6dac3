"""The Conformer against its published sizes and against other implementations of its parts."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model_store.backbones.conformer import ETF4ASR, LDASR, STREAMING, Conformer, ConformerConfig
from model_store.backbones.conformer_block import (
    ConformerBlock,
    ConvolutionModule,
    StridedBatchNorm,
)
from model_store.backbones.conformer_front_end import (
    FFT_SAMPLES,
    WINDOW_SAMPLES,
    PowerMel,
    htk_filters,
    sinusoidal_positions,
)
from model_store.backbones.elastic import RowContext
from model_store.backbones.log_mel import HOP_SAMPLES
from model_store.backbones.parameters import parameters_used
from model_store.depth import DepthPlan
from tests.numerics.backbones import noise

# Importing transformers takes seconds, once.
pytestmark = pytest.mark.timeout(120)


def on_paper(config: ConformerConfig) -> Conformer:
    with torch.device("meta"):
        return Conformer(config)


@pytest.mark.parametrize(
    ("config", "parameters"), [(LDASR, 31_207_168), (ETF4ASR, 18_600_192)], ids=["ldasr", "etf"]
)
def test_the_published_sizes_have_the_published_parameters(
    config: ConformerConfig, parameters: int
) -> None:
    assert parameters_used(on_paper(config), DepthPlan.full(12)) == parameters


@pytest.mark.parametrize(
    ("config", "millions"),
    [(LDASR, (5.5, 10.6, 15.8, 20.9, 26.1, 31.2)), (ETF4ASR, (3.4, 6.4, 9.5, 12.5, 15.6, 18.6))],
    ids=["ldasr", "etf"],
)
def test_kept_blocks_have_the_published_parameters(
    config: ConformerConfig, millions: tuple[float, ...]
) -> None:
    model = on_paper(config)

    used = [parameters_used(model, DepthPlan.keeping(range(n), 12)) for n in range(2, 13, 2)]

    assert tuple(round(count / 1e6, 1) for count in used) == millions


def test_the_streaming_one_is_as_large_as_the_smaller_of_them() -> None:
    used = parameters_used(on_paper(STREAMING), DepthPlan.full(12))

    assert used == pytest.approx(18_600_192, rel=0.001)


@pytest.mark.parametrize("config", [LDASR, ETF4ASR], ids=["ldasr", "etf"])
def test_blocks_have_the_published_operations(config: ConformerConfig) -> None:
    from model_store.depth import DepthSchedule
    from model_store.flops import decoder_flops, encoder_flops
    from model_store.registry.sizes import model_sizes

    sizes, ten_s = model_sizes(on_paper(config)), 160_000
    macs = [
        (
            encoder_flops(sizes, DepthSchedule.constant(DepthPlan.keeping(range(n), 12)), ten_s)
            + decoder_flops(sizes, ten_s, 0)
        )
        / 2e9
        for n in range(2, 13, 2)
    ]

    published = {
        2048: (1.44, 2.79, 4.13, 5.48, 6.83, 8.17),
        1024: (0.92, 1.74, 2.56, 3.38, 4.20, 5.03),
    }
    # Ours counts the filter bank as well, and frames that the published estimate rounds.
    assert macs == pytest.approx(published[config.inner_dim], abs=0.06)


def test_the_filter_bank_is_htks() -> None:
    from transformers.audio_utils import mel_filter_bank

    expected_FM = mel_filter_bank(FFT_SAMPLES // 2 + 1, 80, 0.0, 8000.0, 16_000, None, "htk")

    torch.testing.assert_close(
        htk_filters(80), torch.from_numpy(expected_FM.T).float(), rtol=1e-4, atol=1e-5
    )


def test_features_are_mel_powers() -> None:
    from transformers.audio_utils import mel_filter_bank, spectrogram

    samples_BS, lengths_B = noise(16_000)
    filters = mel_filter_bank(FFT_SAMPLES // 2 + 1, 80, 0.0, 8000.0, 16_000, None, "htk")
    window = torch.hann_window(WINDOW_SAMPLES).numpy()
    expected_MN = spectrogram(
        samples_BS[0].numpy(),
        np.asarray(window),
        WINDOW_SAMPLES,
        HOP_SAMPLES,
        FFT_SAMPLES,
        power=2.0,
        mel_filters=filters,
        mel_floor=0.0,
    )

    found_BMN = PowerMel(80)(samples_BS, lengths_B, lengths_B // HOP_SAMPLES)

    # The last windows hear silence after the end where the other hears a mirror image.
    expected = torch.from_numpy(expected_MN).float()[:, :98]
    torch.testing.assert_close(found_BMN[0, :, :98], expected, rtol=1e-3, atol=1e-3)


def test_positions_are_those_of_the_paper() -> None:
    found_TD = sinusoidal_positions(torch.arange(50), 8)

    for position, channel in ((0, 0), (7, 2), (49, 6)):
        angle = position / 10_000 ** (channel / 8)
        assert float(found_TD[position, channel]) == pytest.approx(np.sin(angle), abs=1e-5)
        assert float(found_TD[position, channel + 1]) == pytest.approx(np.cos(angle), abs=1e-5)


def assert_same_weights(ours: nn.Module, theirs: Any, source: str, target: str) -> None:
    for kind in ("weight", "bias"):
        value = theirs.get_parameter(f"{source}.{kind}")
        if hasattr(ours.get_submodule(target), f"{kind}_SD"):
            ours.get_submodule(target).get_parameter(f"{kind}_SD").copy_(value.expand(4, -1))
        else:
            ours.get_submodule(target).get_parameter(kind).copy_(value)


@torch.no_grad()
def filled(block: ConformerBlock, reference: Any) -> None:
    """Give our block the weights of transformers'; its convolutions have no biases."""
    for ours, theirs in (("first", "ffn1"), ("second", "ffn2")):
        assert_same_weights(block, reference, f"{theirs}_layer_norm", f"{ours}.norm")
        assert_same_weights(block, reference, f"{theirs}.intermediate_dense", f"{ours}.up")
        assert_same_weights(block, reference, f"{theirs}.output_dense", f"{ours}.down")
    assert_same_weights(block, reference, "self_attn_layer_norm", "attention_norm")
    attention = reference.self_attn
    parts = (attention.linear_q, attention.linear_k, attention.linear_v)
    block.attention.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
    block.attention.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
    assert_same_weights(block, reference, "self_attn.linear_out", "attention.out")
    convolution, theirs = block.convolution, reference.conv_module
    assert_same_weights(block, reference, "conv_module.layer_norm", "convolution.norm")
    convolution.gated.weight.copy_(theirs.pointwise_conv1.weight.squeeze(2))
    convolution.depthwise.weight.copy_(theirs.depthwise_conv.weight)
    convolution.out.weight.copy_(theirs.pointwise_conv2.weight.squeeze(2))
    for linear in (convolution.gated, convolution.depthwise, convolution.out):
        assert linear.bias is not None
        linear.bias.zero_()
    assert_same_weights(block, reference, "conv_module.batch_norm", "convolution.row_norm")
    for kind in ("mean", "var"):
        stored = convolution.row_norm.get_buffer(f"running_{kind}_SD")
        stored.copy_(theirs.batch_norm.get_buffer(f"running_{kind}").expand_as(stored))


@torch.inference_mode()
def test_a_block_computes_what_transformers_conformer_does() -> None:
    from transformers import Wav2Vec2ConformerConfig
    from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
        Wav2Vec2ConformerEncoderLayer,
    )

    torch.manual_seed(0)
    config = Wav2Vec2ConformerConfig(
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=4,
        conv_depthwise_kernel_size=7,
        position_embeddings_type=None,
        hidden_act="swish",
    )
    config._attn_implementation = "eager"
    reference: Any = Wav2Vec2ConformerEncoderLayer(config).eval()
    for value in (*reference.parameters(), *reference.buffers()):
        if value.is_floating_point():
            value.add_(torch.rand_like(value), alpha=0.3)
    convolution = ConvolutionModule(32, 7, "batch", causal=False, dropout=0.1)
    block = ConformerBlock(32, 4, 48, convolution, 0.1).eval()
    filled(block, reference)
    x_BTD = torch.randn(2, 40, 32)

    before_norm_BTD = block(x_BTD, RowContext(0, torch.arange(40), None, None, None))
    ours_BTD = reference.final_layer_norm(before_norm_BTD)

    torch.testing.assert_close(ours_BTD, reference(x_BTD), rtol=1e-4, atol=1e-4)


def rows(batch: int = 3, length: int = 10, dim: int = 4) -> Tensor:
    return torch.randn(batch, length, dim, generator=torch.Generator().manual_seed(0)) * 3 + 1


def test_a_batch_norm_over_all_rows_is_torchs_in_training_and_after() -> None:
    ours, theirs = StridedBatchNorm(4), nn.BatchNorm1d(4)
    x_BGD = rows()

    trained_BGD = ours(x_BGD, 1, None)
    torch.testing.assert_close(trained_BGD, theirs(x_BGD.transpose(1, 2)).transpose(1, 2))

    ours.eval()
    theirs.eval()
    served_BGD = ours(x_BGD, 1, None)
    torch.testing.assert_close(served_BGD, theirs(x_BGD.transpose(1, 2)).transpose(1, 2))
    # Other strides have learned nothing.
    torch.testing.assert_close(ours(x_BGD, 0, None), x_BGD, rtol=1e-4, atol=1e-4)


def test_a_batch_norm_hears_valid_rows_alone() -> None:
    x_BGD, valid_BG = rows(), torch.arange(10) < torch.tensor([[10], [4], [7]])
    changed_BGD = torch.where(valid_BG.unsqueeze(-1), x_BGD, 1000.0)

    norms = [StridedBatchNorm(4), StridedBatchNorm(4)]
    first, second = (
        norm(x, 0, valid_BG) for norm, x in zip(norms, (x_BGD, changed_BGD), strict=True)
    )

    torch.testing.assert_close(first[valid_BG], second[valid_BG])
    for kind in ("mean", "var"):
        kept = [norm.get_buffer(f"running_{kind}_SD") for norm in norms]
        torch.testing.assert_close(kept[0], kept[1])


def test_rows_of_several_strides_are_normed_apart() -> None:
    x_BGD, index_G = rows(), torch.tensor([0] * 6 + [2] * 4)
    mixed, apart = StridedBatchNorm(4), StridedBatchNorm(4)

    found_BGD = mixed(x_BGD, index_G, None)
    expected_BGD = torch.cat([apart(x_BGD[:, :6], 0, None), apart(x_BGD[:, 6:], 2, None)], 1)

    torch.testing.assert_close(found_BGD, expected_BGD)
    for module in (mixed, apart):
        module.eval()
    torch.testing.assert_close(mixed(x_BGD, index_G, None)[:, 6:], apart(x_BGD[:, 6:], 2, None))


def test_dropout_is_for_training_alone() -> None:
    config = ConformerConfig(
        vocabulary=12, dim=16, inner_dim=16, num_heads=2, encoder_layers=2, kernel=3, mels=10
    )
    model = Conformer(config)
    plan = DepthPlan((1, 2))

    with torch.no_grad():
        trained = [model(*noise(9_000), plan).states_BTD for _ in range(2)]
        model.eval()
        served = [model(*noise(9_000), plan).states_BTD for _ in range(2)]

    assert not torch.equal(trained[0], trained[1])
    assert torch.equal(served[0], served[1])
