"""WavLM with a CTC read-out: raw samples in, elastic layers with a relative position bias.

Its position convolution reads 1.3 s of the future and its first norm the whole input, so it hears
whole utterances alone.

Dimensions: B = utterances, S = samples at 16 kHz, N = places of a convolution, T = encoder frames
(20 ms), D = channels, V = vocabulary.

Source: Chen et al., WavLM, arXiv 2110.13900; architecture as in transformers, `models/wavlm`
(Apache-2.0), equal to it in a test.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.base import EncoderStates
from model_store.backbones.elastic import ElasticLayer, ElasticStack
from model_store.backbones.wavlm_block import RelativeBias, WavLMBlock
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import StreamingUnsupported

SAMPLE_RATE_HZ = 16_000
INPUT_EPS = 1e-7
FRONT_END_EPS = 1e-5
"""Of the norms in the front end's convolutions; the other norms' is the checkpoint's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WavLMConfig:
    """Sizes of a WavLM, as its checkpoint states them.

    Args:
        vocabulary: tokens, the blank among them.
        conv_channels, conv_kernels, conv_strides: the front end, in order.
        conv_norm: each channel of the first convolution over the whole input (base models), or a
            LayerNorm after every one (large).
        position_kernel, position_groups: of the convolution that tells positions.
        num_buckets, max_distance: of the relative bias, in frames.
        pre_norm: layers that norm what goes in (large) instead of what comes out (base).
        normalise_input: bring each utterance to mean 0 and variance 1.
        dropout, attention_dropout, inner_dropout: shares that training drops.
        wrapped_targets: whether texts are trained with a start and an end token around them.
        bypass_rank: inner width of a skipped layer's bypass; 0 = skipping is the identity.
    """

    vocabulary: int
    dim: int = 768
    inner_dim: int = 3072
    num_heads: int = 12
    encoder_layers: int = 12
    conv_channels: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    conv_norm: Literal["group", "layer"] = "group"
    position_kernel: int = 128
    position_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    pre_norm: bool = False
    normalise_input: bool = False
    eps: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.1
    inner_dropout: float = 0.1
    blank: int = 0
    wrapped_targets: bool = False
    bypass_rank: int = 0

    @property
    def frame_samples(self) -> int:
        """Samples from one frame's start to the next one's."""
        product = 1
        for stride in self.conv_strides:
            product *= stride
        return product

    @property
    def receptive_samples(self) -> int:
        """Samples that one frame's convolutions read."""
        length = 1
        for kernel, stride in reversed(
            list(zip(self.conv_kernels, self.conv_strides, strict=True))
        ):
            length = (length - 1) * stride + kernel
        return length


class FrontEnd(nn.Module):
    """Unpadded convolutions over samples, a projection, and a convolution that tells positions.

    Seven convolutions on top of each other with norms between them make much of small roundings,
    so their matrices are never rounded.
    """

    keeps_float32: ClassVar[bool] = True

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.config = config
        channels = (1, *config.conv_channels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, outputs, kernel, stride, bias=config.conv_bias)
            for (inputs, outputs), kernel, stride in zip(
                pairwise(channels), config.conv_kernels, config.conv_strides, strict=True
            )
        )
        normed = 1 if config.conv_norm == "group" else len(config.conv_channels)
        self.norms = nn.ModuleList(
            nn.LayerNorm(dim, eps=FRONT_END_EPS) for dim in config.conv_channels[:normed]
        )
        self.projection_norm = nn.LayerNorm(config.conv_channels[-1], eps=config.eps)
        self.projection = nn.Linear(config.conv_channels[-1], config.dim)
        self.position = nn.Conv1d(
            config.dim, config.dim, config.position_kernel, groups=config.position_groups
        )

    def forward(self, samples_BS: Tensor, num_samples_B: Tensor) -> Tensor:
        """Turn samples into frames; what lies past an utterance's end changes none of its own."""
        if self.config.normalise_input:
            samples_BS = _normalised(samples_BS, num_samples_B)
        x_BDN, places_B = samples_BS.unsqueeze(1), num_samples_B
        for index, convolution in enumerate(self.convolutions):
            x_BDN = convolution(x_BDN)
            places_B = _places(places_B, self.config, index)
            if index < len(self.norms):
                x_BDN = self._normed(x_BDN, places_B, index)
            x_BDN = F.gelu(x_BDN)
        x_BTD = self.projection(self.projection_norm(x_BDN.transpose(1, 2)))
        valid_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device) < places_B[:, None]
        # What follows an utterance's end is to its last frames what the end of the input is.
        x_BTD = x_BTD * valid_BT.unsqueeze(-1)
        half = self.config.position_kernel // 2
        padded_BDT = F.pad(x_BTD.transpose(1, 2), (half, self.config.position_kernel - 1 - half))
        return x_BTD + F.gelu(self.position(padded_BDT)).transpose(1, 2)

    def num_frames(self, num_samples_B: Tensor) -> Tensor:
        """Whole frames alone: nothing is padded."""
        for index in range(len(self.config.conv_kernels)):
            num_samples_B = _places(num_samples_B, self.config, index)
        return num_samples_B

    def _normed(self, x_BDN: Tensor, places_B: Tensor, index: int) -> Tensor:
        norm = self.norms[index]
        assert isinstance(norm, nn.LayerNorm), "expected a LayerNorm's weights for either norm"
        if self.config.conv_norm == "layer":
            return norm(x_BDN.transpose(1, 2)).transpose(1, 2)
        valid_B1N = torch.arange(x_BDN.shape[2], device=x_BDN.device) < places_B[:, None, None]
        x_BDN = x_BDN.float()
        count_B11 = places_B.view(-1, 1, 1)
        mean_BD1 = (x_BDN * valid_B1N).sum(2, keepdim=True) / count_B11
        centred_BDN = (x_BDN - mean_BD1) * valid_B1N
        variance_BD1 = centred_BDN.square().sum(2, keepdim=True) / count_B11
        scaled_BDN = centred_BDN * torch.rsqrt(variance_BD1 + norm.eps)
        return scaled_BDN * norm.weight[:, None] + norm.bias[:, None]


class Encoder(nn.Module):
    """Front end, elastic layers, a norm before them or after them."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config)
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.relative = RelativeBias(config.num_buckets, config.max_distance, config.num_heads)
        layers = [_layer(config) for _ in range(config.encoder_layers)]
        self.stack = ElasticStack(layers, relative=self.relative)

    def front_end_states(self, samples_BS: Tensor, num_samples_B: Tensor) -> EncoderStates:
        """Give what the first layer sees."""
        x_BTD = self.front_end(samples_BS, num_samples_B)
        if not self.config.pre_norm:
            x_BTD = self.norm(x_BTD)
        return EncoderStates(self.dropout(x_BTD), self.front_end.num_frames(num_samples_B))

    def exit_states(self, states_BTD: Tensor) -> Tensor:
        """Give what the read-out takes of any layer's states: normed where the layers leave that."""
        return self.norm(states_BTD) if self.config.pre_norm else states_BTD

    def forward(
        self, samples_BS: Tensor, num_samples_B: Tensor, schedule: DepthSchedule
    ) -> EncoderStates:
        """Encode whole utterances."""
        frames = self.front_end_states(samples_BS, num_samples_B)
        num_frames_B = frames.num_frames_B
        ragged = not bool((num_frames_B == frames.states_BTD.shape[1]).all())
        states_BTD = self.stack(frames.states_BTD, num_frames_B if ragged else None, schedule)
        return EncoderStates(self.exit_states(states_BTD), num_frames_B)


class WavLM(nn.Module):
    """Elastic encoder and a linear read-out; see `backbones.base.CtcModel`."""

    backbone: ClassVar[str] = "wavlm"

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.head = nn.Linear(config.dim, config.vocabulary)

    @property
    def num_layers(self) -> int:
        """Encoder layers."""
        return self.config.encoder_layers

    @property
    def frame_samples(self) -> int:
        """Samples from one frame's start to the next one's."""
        return self.config.frame_samples

    @property
    def frame_s(self) -> float:
        """Seconds from one frame's start to the next one's."""
        return self.config.frame_samples / SAMPLE_RATE_HZ

    @property
    def vocabulary(self) -> int:
        """Tokens, the blank among them."""
        return self.config.vocabulary

    @property
    def blank(self) -> int:
        """The token that says nothing."""
        return self.config.blank

    def num_frames(self, num_samples_B: Tensor) -> Tensor:
        """Frames that utterances give; shorter than one frame counts as one."""
        shortest = self.config.receptive_samples
        return self.encoder.front_end.num_frames(num_samples_B.clamp(min=shortest))

    def forward(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        plan: DepthPlan,
        chunk_frames: int | None = None,
    ) -> EncoderStates:
        """Encode with one plan throughout; see `encode`."""
        return self.encode(samples_BS, num_samples_B, DepthSchedule.constant(plan), chunk_frames)

    def encode(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> EncoderStates:
        """Encode a batch of utterances; shorter than one frame is completed by silence.

        Raises:
            StreamingUnsupported: a chunk mask is asked for.
        """
        if chunk_frames is not None:
            raise StreamingUnsupported(
                "expected a model that streams for a chunk mask, got a wavlm, which does not"
            )
        shortest = self.config.receptive_samples
        if int(num_samples_B.min()) < shortest:
            samples_BS = F.pad(samples_BS, (0, max(0, shortest - samples_BS.shape[1])))
            sample_S = torch.arange(samples_BS.shape[1], device=samples_BS.device)
            samples_BS = samples_BS * (sample_S < num_samples_B[:, None])
        return self.encoder(samples_BS, num_samples_B.clamp(min=shortest), schedule)

    def log_probs(self, states_BTD: Tensor) -> Tensor:
        """Give the logarithm of each token's probability at every frame."""
        return self.head(states_BTD).float().log_softmax(-1)


def _layer(config: WavLMConfig) -> ElasticLayer:
    block = WavLMBlock(
        config.dim,
        config.num_heads,
        config.inner_dim,
        pre_norm=config.pre_norm,
        eps=config.eps,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        inner_dropout=config.inner_dropout,
    )
    return ElasticLayer(block, config.dim, config.bypass_rank)


def _places(length_B: Tensor, config: WavLMConfig, index: int) -> Tensor:
    return (length_B - config.conv_kernels[index]) // config.conv_strides[index] + 1


def _normalised(samples_BS: Tensor, num_samples_B: Tensor) -> Tensor:
    valid_BS = torch.arange(samples_BS.shape[1], device=samples_BS.device) < num_samples_B[:, None]
    count_B1 = num_samples_B[:, None]
    centred_BS = (samples_BS - (samples_BS * valid_BS).sum(1, keepdim=True) / count_B1) * valid_BS
    variance_B1 = centred_BS.square().sum(1, keepdim=True) / count_B1
    return centred_BS * torch.rsqrt(variance_B1 + INPUT_EPS)
