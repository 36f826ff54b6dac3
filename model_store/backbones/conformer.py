"""Conformer with a CTC read-out: the papers' encoder, and a causal one that streams.

Dimensions: B = utterances, S = samples at 16 kHz, T = encoder frames (40 ms), D = channels,
V = vocabulary.

Source: Hannan et al., LDASR (EUSIPCO 2024) and ETF4ASR (arXiv 2505.16991), whose layers are those
of Gulati et al., Conformer, arXiv 2005.08100.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from model_store.backbones.base import EncoderStates
from model_store.backbones.conformer_block import (
    ConformerBlock,
    ConvolutionModule,
    ConvolutionNorm,
)
from model_store.backbones.conformer_front_end import (
    FRAME_WINDOWS,
    SAMPLE_RATE_HZ,
    ConformerFrontEnd,
    sinusoidal_positions,
)
from model_store.backbones.elastic import ElasticLayer, ElasticStack
from model_store.backbones.log_mel import HOP_SAMPLES
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import StreamingUnsupported

FRAME_SAMPLES = FRAME_WINDOWS * HOP_SAMPLES
"""Samples from one frame's start to the next one's: 40 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformerConfig:
    """Sizes of a Conformer, as its checkpoint states them.

    Args:
        vocabulary: tokens, the blank among them.
        kernel: rows that a layer's convolution reads, odd.
        features: mel powers as the papers' code has them, or log-mel.
        front_end: two convolutions alone (LDASR), or with GELU and a batch norm (ETF4ASR).
        norm: of the convolution: batch norm as published, or LayerNorm.
        causal: convolutions read no later row, so that the model can stream.
        dropout: share that training drops.
        wrapped_targets: whether texts are trained with a start and an end token around them, as
            the papers' are.
        bypass_rank: inner width of a skipped layer's bypass; 0 = the final norm alone.
        exits: numbers of layers after which the read-out was trained too: a plan of exactly these
            first layers is read there, before the final norms of the skipped ones; () for none.
    """

    vocabulary: int
    dim: int = 256
    inner_dim: int = 2048
    num_heads: int = 8
    encoder_layers: int = 12
    kernel: int = 31
    mels: int = 80
    features: Literal["power", "log"] = "power"
    front_end: Literal["plain", "activated"] = "plain"
    norm: ConvolutionNorm = "batch"
    causal: bool = False
    dropout: float = 0.1
    blank: int = 0
    wrapped_targets: bool = True
    bypass_rank: int = 0
    exits: tuple[int, ...] = ()


LDASR = ConformerConfig(vocabulary=256)
"""31.2 M parameters."""

ETF4ASR = ConformerConfig(vocabulary=256, inner_dim=1024, num_heads=4, front_end="activated")
"""18.6 M parameters."""

STREAMING = ConformerConfig(
    vocabulary=256,
    inner_dim=1024,
    num_heads=4,
    features="log",
    norm="layer",
    causal=True,
    wrapped_targets=False,
)
"""As large as ETF4ASR's; hears nothing of the future but what a frame itself reads."""


class Encoder(nn.Module):
    """Front end, positions, elastic layers that end in a norm each."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = ConformerFrontEnd(
            config.mels,
            config.dim,
            log=config.features == "log",
            activated=config.front_end == "activated",
        )
        self.dropout = nn.Dropout(config.dropout)
        self.stack = ElasticStack([_layer(config) for _ in range(config.encoder_layers)])

    def front_end_states(self, samples_BS: Tensor, num_samples_B: Tensor) -> EncoderStates:
        """Give what the first layer sees, positions included."""
        x_BTD = self.front_end(samples_BS, num_samples_B)
        position_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        placed_BTD = self.placed(x_BTD, position_T)
        return EncoderStates(self.dropout(placed_BTD), self.front_end.num_frames(num_samples_B))

    def placed(self, x_TD: Tensor, position_T: Tensor) -> Tensor:
        """Add positions to frames, (..., T, D).

        Frames of log-mel features are raised first, as in Vaswani et al., arXiv 1706.03762: at the
        start they are a quarter as large as positions. Mel powers are large as they are.
        """
        scale = math.sqrt(self.config.dim) if self.config.features == "log" else 1.0
        return x_TD * scale + sinusoidal_positions(position_T, self.config.dim)

    def exit_states(self, states_BTD: Tensor) -> Tensor:
        """Give what the read-out takes of any layer's states: themselves."""
        return states_BTD

    def read_after(self, plan: DepthPlan) -> int:
        """Give the number of layers after which a plan is read: an exit's, or all of them."""
        running = sum(stride > 0 for stride in plan.strides)
        first = all(plan.strides[:running])
        return running if first and running in self.config.exits else plan.num_layers

    def forward(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> EncoderStates:
        """Encode whole utterances."""
        frames = self.front_end_states(samples_BS, num_samples_B)
        num_frames_B = frames.num_frames_B
        ragged = not bool((num_frames_B == frames.states_BTD.shape[1]).all())
        ragged_B = num_frames_B if ragged else None
        each = self.stack.each(frames.states_BTD, ragged_B, schedule, chunk_frames)
        # A schedule's plans skip the same layers, so that one exit holds for all.
        return EncoderStates(self.read(each, schedule.parts[0][1]), num_frames_B)

    def read(self, each: Iterable[Tensor], plan: DepthPlan) -> Tensor:
        """Run all layers and give the states after the one that a plan is read after."""
        layers = self.read_after(plan)
        read_BTD: Tensor | None = None
        # To the last one, so that a training step finds the states of its other exits too.
        for index, states_BTD in enumerate(each, start=1):
            if index == layers:
                read_BTD = states_BTD
        assert read_BTD is not None, "expected states after every layer"
        return read_BTD


class Conformer(nn.Module):
    """Elastic encoder and a linear read-out; see `backbones.base.CtcModel`."""

    backbone: ClassVar[str] = "conformer"

    def __init__(self, config: ConformerConfig) -> None:
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
        return FRAME_SAMPLES

    @property
    def frame_s(self) -> float:
        """Seconds from one frame's start to the next one's."""
        return FRAME_SAMPLES / SAMPLE_RATE_HZ

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
        return self.encoder.front_end.num_frames(num_samples_B)

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
            StreamingUnsupported: a chunk mask is asked of convolutions that read later rows.
        """
        if chunk_frames is not None and not self.config.causal:
            raise StreamingUnsupported(
                "expected a conformer with causal convolutions for a chunk mask, got one without"
            )
        return self.encoder(samples_BS, num_samples_B, schedule, chunk_frames)

    def log_probs(self, states_BTD: Tensor) -> Tensor:
        """Give the logarithm of each token's probability at every frame."""
        return self.head(states_BTD).float().log_softmax(-1)


def _layer(config: ConformerConfig) -> ElasticLayer:
    convolution = ConvolutionModule(
        config.dim, config.kernel, config.norm, causal=config.causal, dropout=config.dropout
    )
    block = ConformerBlock(
        config.dim, config.num_heads, config.inner_dim, convolution, config.dropout
    )
    return ElasticLayer(block, config.dim, config.bypass_rank, nn.LayerNorm(config.dim))
