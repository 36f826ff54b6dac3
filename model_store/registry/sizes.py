"""A backbone's configuration to the sizes that the FLOPs formula needs."""

from itertools import pairwise
from typing import Any

from model_store.backbones import AnyModule, conformer_front_end
from model_store.backbones.conformer import Conformer, ConformerConfig
from model_store.backbones.log_mel import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES
from model_store.backbones.moonshine import (
    CONV_STRIDES,
    KERNELS,
    RECEPTIVE_SAMPLES,
    Moonshine,
    MoonshineConfig,
)
from model_store.backbones.moonshine_streaming import (
    CONV_STRIDE,
    KERNEL,
    STEP_SAMPLES,
    MoonshineStreaming,
    MoonshineStreamingConfig,
)
from model_store.backbones.wavlm import WavLM, WavLMConfig
from model_store.backbones.wavlm_block import GATE_CHANNELS
from model_store.backbones.whisper import Whisper, WhisperConfig
from model_store.flops import Convolution, ModelSizes

SPECTRUM = WINDOW_SAMPLES // 2 + 1
"""Frequencies that the mel filter bank weighs; the Fourier transform itself is not counted."""


def model_sizes(model: AnyModule) -> ModelSizes:
    """Give the sizes of any backbone; no heads are watched yet."""
    if isinstance(model, Moonshine):
        return _moonshine(model.config)
    if isinstance(model, MoonshineStreaming):
        return _moonshine_streaming(model.config)
    if isinstance(model, Conformer):
        return _conformer(model.config)
    if isinstance(model, WavLM):
        return _wavlm(model.config)
    assert isinstance(model, Whisper), "every backbone has its sizes here"
    return _whisper(model.config)


def _moonshine(config: MoonshineConfig) -> ModelSizes:
    dim, rank = config.dim, config.front_end_rank
    second = (
        (Convolution(dim, rank, KERNELS[1], CONV_STRIDES[1]), Convolution(rank, 2 * dim, 1, 1))
        if rank
        else (Convolution(dim, 2 * dim, KERNELS[1], CONV_STRIDES[1]),)
    )
    return ModelSizes(
        convolutions=(
            Convolution(1, dim, KERNELS[0], CONV_STRIDES[0]),
            *second,
            Convolution(2 * dim, dim, KERNELS[2], CONV_STRIDES[2]),
        ),
        dim=dim,
        head_dim=dim // config.num_heads,
        encoder_layers=config.encoder_layers,
        mlp_multiply_adds=2 * dim * config.inner_dim,
        bypass_rank=config.bypass_rank,
        decoder_layers=config.decoder_layers,
        decoder_mlp_multiply_adds=3 * dim * config.inner_dim,
        memory_pool=config.memory_pool,
        vocabulary=config.vocabulary,
        prompt_tokens=1,
        shortest_input=RECEPTIVE_SAMPLES,
    )


def _moonshine_streaming(config: MoonshineStreamingConfig) -> ModelSizes:
    dim, causal = config.dim, KERNEL // 2
    return ModelSizes(
        # Padded on the left alone by twice this, which makes as many outputs.
        convolutions=(
            Convolution(STEP_SAMPLES, dim, 1, 1),
            Convolution(dim, 2 * dim, KERNEL, CONV_STRIDE, padding=causal),
            Convolution(2 * dim, dim, KERNEL, CONV_STRIDE, padding=causal),
        ),
        dim=dim,
        head_dim=config.decoder_dim // config.decoder_heads,
        encoder_layers=len(config.windows),
        mlp_multiply_adds=2 * dim * config.inner_dim,
        bypass_rank=config.bypass_rank,
        decoder_layers=config.decoder_layers,
        decoder_mlp_multiply_adds=3 * config.decoder_dim * config.decoder_inner_dim,
        memory_pool=config.memory_pool,
        vocabulary=config.vocabulary,
        prompt_tokens=1,
        samples_per_input=STEP_SAMPLES,
        shortest_input=1,
        attention_dim=config.num_heads * config.head_dim,
        decoder_channels=config.decoder_dim,
    )


def _whisper(config: WhisperConfig) -> ModelSizes:
    dim = config.dim
    return ModelSizes(
        convolutions=(
            Convolution(SPECTRUM, config.mels, 1, 1),
            Convolution(config.mels, dim, 3, 1, padding=1),
            Convolution(dim, dim, 3, 2, padding=1),
        ),
        dim=dim,
        head_dim=dim // config.num_heads,
        encoder_layers=config.encoder_layers,
        mlp_multiply_adds=2 * dim * config.inner_dim,
        bypass_rank=config.bypass_rank,
        decoder_layers=config.decoder_layers,
        decoder_mlp_multiply_adds=2 * dim * config.inner_dim,
        memory_pool=config.memory_pool,
        vocabulary=config.vocabulary,
        prompt_tokens=len(config.prompt),
        samples_per_input=HOP_SAMPLES,
        shortest_input=1,
        padded_input=round(config.pad_to_s * SAMPLE_RATE_HZ) // HOP_SAMPLES,
    )


def _conformer(config: ConformerConfig) -> ModelSizes:
    dim = config.dim
    kernel, stride = conformer_front_end.KERNEL, conformer_front_end.CONV_STRIDE
    spectrum = SPECTRUM if config.features == "log" else conformer_front_end.FFT_SAMPLES // 2 + 1
    padding = 1 if config.front_end == "activated" else 0
    feed_forwards = 2 * 2 * dim * config.inner_dim
    convolution = 3 * dim**2 + config.kernel * dim
    return ModelSizes(
        convolutions=(
            Convolution(spectrum, config.mels, 1, 1),
            Convolution(config.mels, dim, kernel, stride, padding),
            Convolution(dim, dim, kernel, stride),
        ),
        dim=dim,
        head_dim=dim // config.num_heads,
        encoder_layers=config.encoder_layers,
        mlp_multiply_adds=feed_forwards + convolution,
        bypass_rank=config.bypass_rank,
        samples_per_input=HOP_SAMPLES,
        shortest_input=conformer_front_end.RECEPTIVE_WINDOWS,
        **_scored_frames(config.vocabulary),
    )


def _wavlm(config: WavLMConfig) -> ModelSizes:
    dim = config.dim
    shapes = zip(config.conv_kernels, config.conv_strides, strict=True)
    pairs = pairwise((1, *config.conv_channels))
    position = dim // config.position_groups * config.position_kernel
    return ModelSizes(
        convolutions=(
            *(Convolution(*pair, *shape) for pair, shape in zip(pairs, shapes, strict=True)),
            Convolution(config.conv_channels[-1], dim, 1, 1),
            # Padded to as many places as there are frames, each group of channels by itself.
            Convolution(position, dim, 1, 1),
        ),
        dim=dim,
        head_dim=dim // config.num_heads,
        encoder_layers=config.encoder_layers,
        mlp_multiply_adds=2 * dim * config.inner_dim + GATE_CHANNELS * dim,
        bypass_rank=config.bypass_rank,
        shortest_input=config.receptive_samples,
        **_scored_frames(config.vocabulary),
    )


def _scored_frames(vocabulary: int) -> dict[str, Any]:  # Any: keywords
    """Give the sizes of a model without a decoder, which scores its vocabulary at every frame."""
    return {
        "decoder_layers": 0,
        "decoder_mlp_multiply_adds": 0,
        "memory_pool": 1,
        "vocabulary": vocabulary,
        "prompt_tokens": 0,
        "scored_per_frame": vocabulary,
    }
