"""A backbone's configuration to the sizes that the FLOPs formula needs."""

from model_store.backbones import SpeechModule
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
from model_store.backbones.whisper import Whisper, WhisperConfig
from model_store.flops import Convolution, ModelSizes

SPECTRUM = WINDOW_SAMPLES // 2 + 1
"""Frequencies that the mel filter bank weighs; the Fourier transform itself is not counted."""


def model_sizes(model: SpeechModule) -> ModelSizes:
    """Give the sizes of any backbone; no heads are watched yet."""
    if isinstance(model, Moonshine):
        return _moonshine(model.config)
    if isinstance(model, MoonshineStreaming):
        return _moonshine_streaming(model.config)
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
