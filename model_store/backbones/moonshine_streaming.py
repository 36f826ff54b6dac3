"""Moonshine Streaming: causal features at 50 Hz, an encoder of sliding windows, a rotary decoder.

The encoder knows no positions. Each layer hears a window of frames around its own, so what a frame
says is final once the look-ahead of the layers that run has passed: a stream computes what a whole
utterance would. Learned positions come between encoder and decoder.

Dimensions: B = utterances, S = samples at 16 kHz, N = steps of 5 ms, T = encoder frames (20 ms),
G = rows of a layer, P = pooled encoder frames, U = tokens, R = frames of a pooled group,
D = channels, V = vocabulary.

Source: Moonshine v2, arXiv 2602.12241; architecture as in transformers, `models/moonshine_streaming`
(Apache-2.0); weights by Useful Sensors (MIT).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.attention import (
    CrossAttention,
    DecoderCache,
    TokenCache,
    pool_memory,
)
from model_store.backbones.base import EncoderStates, PooledStates
from model_store.backbones.blocks import DecoderBlock
from model_store.backbones.elastic import ElasticLayer, ElasticStack, RowContext
from model_store.backbones.moonshine_streaming_block import Window, WindowedBlock
from model_store.backbones.rotary import RotaryFrequencies
from model_store.depth import MAX_STRIDE, DepthPlan, DepthSchedule
from model_store.errors import AudioTooLong, PlanInvalid

SAMPLE_RATE_HZ = 16_000
STEP_SAMPLES = 80
"""Samples that are normalised and embedded as one: 5 ms."""

KERNEL = 5
CONV_STRIDE = 2
"""Of both convolutions."""

FRAME_SAMPLES = STEP_SAMPLES * CONV_STRIDE**2
"""Samples from one frame's start to the next one's: 20 ms. Frame t reads none after 320 t + 79."""

LARGEST_OFFERED_STRIDE = 4
"""Larger ones run, but look further ahead than captions can wait."""

NORM_EPS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class MoonshineStreamingConfig:
    """Sizes of a Moonshine Streaming model, as its checkpoint states them.

    Args:
        dim, inner_dim, num_heads, head_dim: of the encoder; heads need not fill its channels.
        windows: for each encoder layer the frames that a frame hears before and after itself.
        memory_positions: most encoder frames that the decoder can tell apart.
        tied_head: score tokens by their embeddings instead of by a matrix of their own.
        memory_pool: encoder frames that the decoder sees as one, 1 = as published.
        bypass_rank: inner width of a skipped layer's bypass; 0 = skipping is the identity.
    """

    dim: int
    inner_dim: int
    num_heads: int
    head_dim: int
    windows: tuple[tuple[int, int], ...]
    decoder_dim: int
    decoder_inner_dim: int
    decoder_heads: int
    decoder_layers: int
    vocabulary: int
    rotated: int
    memory_positions: int = 4096
    tied_head: bool = False
    memory_pool: int = 1
    bypass_rank: int = 0
    start_token: int = 1
    end_token: int = 2


class FrontEnd(nn.Module):
    """Steps of 5 ms, each normalised and compressed by itself, and two causal convolutions."""

    def __init__(self, config: MoonshineStreamingConfig) -> None:
        super().__init__()
        dim = config.dim
        self.log_scale = nn.Parameter(torch.tensor(0.75).log())
        self.step = nn.Linear(STEP_SAMPLES, dim, bias=False)
        self.conv1 = nn.Conv1d(dim, 2 * dim, KERNEL, CONV_STRIDE)
        self.conv2 = nn.Conv1d(2 * dim, dim, KERNEL, CONV_STRIDE)

    def forward(self, samples_BS: Tensor) -> Tensor:
        """Turn samples into frames; what follows an utterance's end changes none of its own.

        Shapes:
            out: x_BTD, T = ceil(whole steps / 4).
        """
        e_BDN = F.pad(self.steps(samples_BS), (KERNEL - 1, 0))
        y_BDN = F.pad(F.silu(self.conv1(e_BDN)), (KERNEL - 1, 0))
        return self.conv2(y_BDN).transpose(1, 2)

    def steps(self, samples_BS: Tensor) -> Tensor:
        """Embed each whole step, (B, D, N); samples after the last one are left out."""
        num_steps = samples_BS.shape[1] // STEP_SAMPLES
        step_BNS = samples_BS[:, : num_steps * STEP_SAMPLES].unflatten(1, (num_steps, -1))
        centred_BNS = step_BNS - step_BNS.mean(-1, keepdim=True)
        level_BN1 = (centred_BNS.square().mean(-1, keepdim=True) + NORM_EPS).sqrt()
        compressed_BNS = torch.asinh(self.log_scale.exp() * (centred_BNS / level_BN1))
        return F.silu(self.step(compressed_BNS)).transpose(1, 2)


class Encoder(nn.Module):
    """Front end, elastic layers with a window each, final norm."""

    def __init__(self, config: MoonshineStreamingConfig) -> None:
        super().__init__()
        self.front_end = FrontEnd(config)
        self.windows = [Window(*pair) for pair in config.windows]
        layers = [
            ElasticLayer(
                WindowedBlock(
                    config.dim, config.num_heads, config.head_dim, config.inner_dim, window
                ),
                config.dim,
                config.bypass_rank,
            )
            for window in self.windows
        ]
        self.stack = ElasticStack(layers)
        self.norm = nn.LayerNorm(config.dim, bias=False)

    def forward(
        self, samples_BS: Tensor, num_samples_B: Tensor, schedule: DepthSchedule
    ) -> EncoderStates:
        """Encode whole utterances."""
        x_BTD = self.front_end(samples_BS)
        num_frames_B = _num_frames(num_samples_B)
        ragged_B = None if bool((num_frames_B == x_BTD.shape[1]).all()) else num_frames_B
        return EncoderStates(self.norm(self.stack(x_BTD, ragged_B, schedule)), num_frames_B)


class Decoder(nn.Module):
    """Positions for the encoder's states, and a rotary decoder over them."""

    def __init__(self, config: MoonshineStreamingConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.position_TD = nn.Parameter(torch.zeros(config.memory_positions, config.dim))
        self.pool_RD = nn.Parameter(
            torch.full((config.memory_pool, config.dim), 1 / config.memory_pool)
        )
        self.bridge = nn.Linear(config.dim, dim, bias=False) if dim != config.dim else None
        self.embedding = nn.Embedding(config.vocabulary, dim)
        self.rotary = RotaryFrequencies(config.rotated)
        self.layers = nn.ModuleList(
            DecoderBlock(
                dim, config.decoder_heads, config.decoder_inner_dim, bias=False, gated=True
            )
            for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(dim, bias=False)
        self.head = None if config.tied_head else nn.Linear(dim, config.vocabulary, bias=False)

    def pool(self, encoded: EncoderStates) -> PooledStates:
        """Add positions, average each `memory_pool` frames, bring them to the decoder's channels.

        Raises:
            AudioTooLong: there are more frames than positions.
        """
        placed_BTD = self.place(encoded.states_BTD, 0)
        return self.pool_placed(EncoderStates(placed_BTD, encoded.num_frames_B))

    def place(self, states_BTD: Tensor, first_frame: int) -> Tensor:
        """Add to encoder frames the positions from `first_frame` on.

        Raises:
            AudioTooLong: there are more frames than positions.
        """
        end, positions = first_frame + states_BTD.shape[1], self.position_TD.shape[0]
        if end > positions:
            raise AudioTooLong(positions * FRAME_SAMPLES / SAMPLE_RATE_HZ)
        return states_BTD + self.position_TD[first_frame:end]

    def pool_placed(self, placed: EncoderStates) -> PooledStates:
        """Average and bring to the decoder's channels frames that have their positions."""
        pooled = pool_memory(placed.states_BTD, placed.num_frames_B, self.pool_RD)
        if self.bridge is None:
            return pooled
        return PooledStates(self.bridge(pooled.states_BPD), pooled.num_rows_B)

    def begin(self, pooled: PooledStates, max_tokens: int) -> DecoderCache:
        """Project the cross-attention keys and values once, and make room for tokens."""
        cross: list[CrossAttention] = [layer.cross for layer in self.layers]  # pyright: ignore[reportAssignmentType]
        return DecoderCache.begin(cross, pooled, max_tokens)

    def forward(self, token_BU: Tensor, cache: TokenCache) -> Tensor:
        """Take further tokens; give the states after each, (B, U, D)."""
        position_U = cache.positions(token_BU.shape[1])
        cos_UR, sin_UR = self.rotary(position_U)
        context = RowContext(0, position_U, cache.causal_mask(token_BU.shape[1]), cos_UR, sin_UR)
        x_BUD = self.embedding(token_BU).float()
        for index, layer in enumerate(self.layers):
            x_BUD = layer(x_BUD, context, index, cache)
        cache.advance(token_BU.shape[1])
        return self.norm(x_BUD)

    def logits(self, state_BUD: Tensor) -> Tensor:
        """Score every token of the vocabulary."""
        weight_VD = self.embedding.weight if self.head is None else self.head.weight
        return F.linear(state_BUD.to(weight_VD.dtype), weight_VD).float()


class MoonshineStreaming(nn.Module):
    """Elastic encoder and its decoder; see `backbones.base.SpeechModel`."""

    backbone: ClassVar[str] = "moonshine_streaming"

    def __init__(self, config: MoonshineStreamingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def num_layers(self) -> int:
        """Encoder layers."""
        return len(self.config.windows)

    @property
    def frame_samples(self) -> int:
        """Samples from one frame's start to the next one's."""
        return FRAME_SAMPLES

    @property
    def memory_frame_s(self) -> float:
        """Seconds of audio in one frame that the decoder sees."""
        return self.config.memory_pool * FRAME_SAMPLES / SAMPLE_RATE_HZ

    @property
    def pads_input(self) -> bool:
        """Whether silence completes every utterance anyway, so that adding some changes nothing."""
        return False

    @property
    def prompt(self) -> tuple[int, ...]:
        """Tokens every transcript starts from."""
        return (self.config.start_token,)

    def num_frames(self, num_samples_B: Tensor) -> Tensor:
        """Frames that utterances give; shorter than one step counts as one frame."""
        return _num_frames(num_samples_B)

    def check(self, plan: DepthPlan) -> None:
        """Raise PlanInvalid where a plan is of another number of layers."""
        if plan.num_layers != self.num_layers:
            raise PlanInvalid(f"expected {self.num_layers} strides, got {plan.num_layers}")

    def lookahead_frames(self, plan: DepthPlan) -> int:
        """Frames after a frame's own that must have been heard before it is final, at worst.

        A skipped layer looks nowhere; a layer at stride r waits for whole groups of r frames, so
        the first frame of a group waits longest.

        Raises:
            PlanInvalid: the plan is of another number of layers.
        """
        self.check(plan)
        return max(self._last_heard(frame, plan) - frame for frame in range(MAX_STRIDE))

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
        """Encode a batch of utterances; shorter than one step is completed by silence.

        The layers' windows are the only masks: a stream hears by the same ones, so that cutting it
        into chunks takes nothing away and `chunk_frames` changes nothing.
        """
        if int(num_samples_B.min()) < STEP_SAMPLES:
            samples_BS = F.pad(samples_BS, (0, max(0, STEP_SAMPLES - samples_BS.shape[1])))
            sample_S = torch.arange(samples_BS.shape[1], device=samples_BS.device)
            samples_BS = samples_BS * (sample_S < num_samples_B[:, None])
        return self.encoder(samples_BS, num_samples_B, schedule)

    def _last_heard(self, frame: int, plan: DepthPlan) -> int:
        layers = zip(plan.strides, self.encoder.windows, strict=True)
        for stride, window in reversed(list(layers)):
            if stride:
                row_end = frame - frame % stride + stride - 1
                heard = row_end + window.ahead
                frame = heard - heard % stride + stride - 1
        return frame


def _num_frames(num_samples_B: Tensor) -> Tensor:
    """Each causal convolution gives one output for two inputs, a last single one included."""
    num_steps_B = (num_samples_B // STEP_SAMPLES).clamp(min=1)
    return (num_steps_B + CONV_STRIDE**2 - 1) // CONV_STRIDE**2
