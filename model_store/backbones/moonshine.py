"""Moonshine: raw samples in, an elastic rotary encoder, its own rotary decoder.

Dimensions: B = utterances, S = samples at 16 kHz, N = positions of the first convolution (4 ms),
T = encoder frames (24 ms), P = pooled encoder frames, U = tokens, D = channels, V = vocabulary.

Source: Jeffries et al., Moonshine, arXiv 2410.15608; architecture as in transformers,
`models/moonshine` (Apache-2.0); weights by Useful Sensors (MIT).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.attention import CrossAttention, DecoderCache, TokenCache, pool_memory
from model_store.backbones.base import EncoderStates, PooledStates
from model_store.backbones.blocks import DecoderBlock, EncoderBlock
from model_store.backbones.elastic import ElasticLayer, ElasticStack, RowContext
from model_store.backbones.rotary import RotaryFrequencies
from model_store.depth import DepthPlan, DepthSchedule

SAMPLE_RATE_HZ = 16_000
KERNELS = (127, 7, 3)
CONV_STRIDES = (64, 3, 2)
FRAME_SAMPLES = 64 * 3 * 2
"""Samples from one frame's start to the next one's: 24 ms."""

RECEPTIVE_SAMPLES = 895
"""Frame t reads samples 384 t to 384 t + 894."""

PRIOR_POSITIONS = 125
"""Weight of the running norm's prior, in positions of 4 ms: half a second."""

PRIOR_VARIANCE = 0.0038
"""Variance of the first convolution's output over speech; its mean is near 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoonshineConfig:
    """Sizes of a Moonshine model, as its checkpoint states them.

    Args:
        front_end_rank: inner channels of the factorised second convolution; 0 = as published.
        memory_pool: encoder frames that the decoder sees as one, 1 = as published.
        bypass_rank: inner width of a skipped layer's bypass; 0 = skipping is the identity.
        exits: numbers of layers after which a norm of its own leads out; () for none.
        look_ahead_frames: what chunks hear of the next one; see `depth.look_ahead`.
    """

    dim: int
    inner_dim: int
    num_heads: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int
    rotated: int = 32
    front_end_rank: int = 0
    memory_pool: int = 1
    bypass_rank: int = 0
    exits: tuple[int, ...] = ()
    look_ahead_frames: int = 0
    start_token: int = 1
    end_token: int = 2


class FrontEnd(nn.Module):
    """Three unpadded convolutions, raw samples to frames of 24 ms."""

    def __init__(self, config: MoonshineConfig) -> None:
        super().__init__()
        dim, rank = config.dim, config.front_end_rank
        self.conv1 = nn.Conv1d(1, dim, KERNELS[0], CONV_STRIDES[0], bias=False)
        self.norm_weight_D = nn.Parameter(torch.ones(dim))
        self.norm_bias_D = nn.Parameter(torch.zeros(dim))
        if rank:
            self.conv2_in = nn.Conv1d(dim, rank, KERNELS[1], CONV_STRIDES[1], bias=False)
            self.conv2 = nn.Conv1d(rank, 2 * dim, 1)
        else:
            self.conv2_in = nn.Identity()
            self.conv2 = nn.Conv1d(dim, 2 * dim, KERNELS[1], CONV_STRIDES[1])
        self.conv3 = nn.Conv1d(2 * dim, dim, KERNELS[2], CONV_STRIDES[2])

    def forward(self, samples_BS: Tensor, num_samples_B: Tensor, *, running: bool) -> Tensor:
        """Turn samples into frames.

        Args:
            samples_BS: in [-1, 1]; what lies past an utterance's end does not matter.
            num_samples_B: valid samples of each utterance, at least `RECEPTIVE_SAMPLES`.
            running: normalise position p by the statistics of 0..p and a prior, as a stream has to,
                instead of by the whole utterance's.

        Shapes:
            out: x_BTD, T = the frames of S samples.
        """
        x_BDN = self.first(samples_BS)
        if running:
            normed_BDN, _ = self.running_norm(x_BDN, NormSums.none(x_BDN))
        else:
            normed_BDN = self._whole_norm(x_BDN, num_samples_B)
        return self.third(self.second(self.scaled(normed_BDN, x_BDN.dtype))).transpose(1, 2)

    def first(self, samples_BS: Tensor) -> Tensor:
        """Convolve samples; positions of 4 ms."""
        return torch.tanh(self.conv1(samples_BS.unsqueeze(1)))

    def scaled(self, normed_BDN: Tensor, dtype: torch.dtype) -> Tensor:
        """Apply the norm's weights."""
        scaled_BDN = normed_BDN * self.norm_weight_D[:, None] + self.norm_bias_D[:, None]
        return scaled_BDN.to(dtype)

    def second(self, x_BDN: Tensor) -> Tensor:
        """Convolve normalised positions; of 12 ms then, twice the channels."""
        return F.gelu(self.conv2(self.conv2_in(x_BDN)))

    def third(self, x_BDN: Tensor) -> Tensor:
        """Convolve them into frames, channels before frames."""
        return F.gelu(self.conv3(x_BDN))

    def _whole_norm(self, x_BDN: Tensor, num_samples_B: Tensor) -> Tensor:
        positions_B = (num_samples_B - KERNELS[0]) // CONV_STRIDES[0] + 1
        valid_BN = torch.arange(x_BDN.shape[2], device=x_BDN.device) < positions_B[:, None]
        valid_B1N = valid_BN.unsqueeze(1)
        count_B11 = (positions_B * x_BDN.shape[1]).view(-1, 1, 1)
        x_BDN = x_BDN.float()
        mean_B11 = (x_BDN * valid_B1N).sum((1, 2), keepdim=True) / count_B11
        centred_BDN = x_BDN - mean_B11
        variance_B11 = (centred_BDN.square() * valid_B1N).sum((1, 2), keepdim=True) / count_B11
        return centred_BDN * torch.rsqrt(variance_B11 + 1e-5)

    def running_norm(self, x_BDN: Tensor, before: "NormSums") -> tuple[Tensor, "NormSums"]:
        """Normalise each position by those up to it, a prior among them; give the new sums."""
        x_BDN = x_BDN.float()
        dim, positions = x_BDN.shape[1:]
        place_N = torch.arange(1, positions + 1, device=x_BDN.device)
        mean_BN = before.mean_B1 + x_BDN.mean(1).cumsum(1)
        square_BN = before.square_B1 + x_BDN.square().sum(1).cumsum(1) / dim
        after = NormSums(before.seen_B1 + positions, mean_BN[:, -1:], square_BN[:, -1:])
        seen_BN = place_N + before.seen_B1 + PRIOR_POSITIONS
        mean_BN = mean_BN / seen_BN
        variance_BN = (square_BN + PRIOR_POSITIONS * PRIOR_VARIANCE) / seen_BN - mean_BN.square()
        normed_BDN = (x_BDN - mean_BN[:, None]) * torch.rsqrt(variance_BN[:, None] + 1e-5)
        return normed_BDN, after


@dataclass(frozen=True, slots=True)
class NormSums:
    """What the running norm has seen.

    Shapes:
        seen_B1: positions.
        mean_B1, square_B1: sums over them of the means over channels of the first convolution's
            output and of its square.
    """

    seen_B1: Tensor
    mean_B1: Tensor
    square_B1: Tensor

    @classmethod
    def none(cls, like: Tensor) -> "NormSums":
        """Before the first position of as many utterances as `like` has."""
        zero_B1 = torch.zeros(like.shape[0], 1, device=like.device)
        return cls(zero_B1, zero_B1, zero_B1)


class Encoder(nn.Module):
    """Front end, elastic layers, final norm."""

    def __init__(self, config: MoonshineConfig) -> None:
        super().__init__()
        self.front_end = FrontEnd(config)
        self.rotary = RotaryFrequencies(config.rotated)
        layers = [
            ElasticLayer(
                EncoderBlock(config.dim, config.num_heads, config.inner_dim, bias=False),
                config.dim,
                config.bypass_rank,
            )
            for _ in range(config.encoder_layers)
        ]
        self.stack = ElasticStack(layers, self.rotary, look_ahead_frames=config.look_ahead_frames)
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.exit_norms = nn.ModuleDict(
            {str(layers): nn.LayerNorm(config.dim, bias=False) for layers in config.exits}
        )

    def forward(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> EncoderStates:
        """Encode whole utterances; a chunk mask brings running statistics with it."""
        x_BTD, num_frames_B, ragged_B = self.frames(samples_BS, num_samples_B, chunk_frames)
        states_BTD = self.stack(x_BTD, ragged_B, schedule, chunk_frames)
        norm = self.norm_after(last_layer(schedule))
        return EncoderStates(norm(states_BTD), num_frames_B)

    def each(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> Iterator[EncoderStates]:
        """Encode once and give the states at every layer, through the norm of its exit."""
        x_BTD, num_frames_B, ragged_B = self.frames(samples_BS, num_samples_B, chunk_frames)
        outputs = self.stack.each(x_BTD, ragged_B, schedule, chunk_frames)
        for layers, states_BTD in enumerate(outputs, start=1):
            yield EncoderStates(self.norm_after(layers)(states_BTD), num_frames_B)

    def frames(
        self, samples_BS: Tensor, num_samples_B: Tensor, chunk_frames: int | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run the front end: x_BTD, frames of each utterance, and these once more if they differ."""
        x_BTD = self.front_end(samples_BS, num_samples_B, running=chunk_frames is not None)
        num_frames_B = _num_frames(num_samples_B)
        ragged_B = None if bool((num_frames_B == x_BTD.shape[1]).all()) else num_frames_B
        return x_BTD, num_frames_B, ragged_B

    def norm_after(self, layers: int) -> nn.Module:
        """Give the norm that leads out after so many layers: an exit's own, or the last one."""
        name = str(layers)
        return self.exit_norms[name] if name in self.exit_norms else self.norm  # noqa: SIM401


class Decoder(nn.Module):
    """Rotary decoder; its output rows are tied to the token embedding."""

    def __init__(self, config: MoonshineConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.dim)
        self.rotary = RotaryFrequencies(config.rotated)
        self.layers = nn.ModuleList(
            DecoderBlock(config.dim, config.num_heads, config.inner_dim, bias=False, gated=True)
            for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.pool_RD = nn.Parameter(
            torch.full((config.memory_pool, config.dim), 1 / config.memory_pool)
        )

    def pool(self, encoded: EncoderStates) -> PooledStates:
        """Average each `memory_pool` frames; the last group repeats the utterance's last frame."""
        return pool_memory(encoded.states_BTD, encoded.num_frames_B, self.pool_RD)

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
        return F.linear(state_BUD.to(self.embedding.weight.dtype), self.embedding.weight).float()


class Moonshine(nn.Module):
    """Elastic encoder and its decoder; see `backbones.base.SpeechModel`."""

    backbone: ClassVar[str] = "moonshine"

    def __init__(self, config: MoonshineConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def num_layers(self) -> int:
        """Encoder layers."""
        return self.config.encoder_layers

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
        """Frames that utterances give; shorter than one frame counts as one."""
        return _num_frames(num_samples_B.clamp(min=RECEPTIVE_SAMPLES))

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
        """Encode a batch of utterances; shorter than one frame is completed by silence."""
        return self.encoder(*_completed(samples_BS, num_samples_B), schedule, chunk_frames)

    def encode_each(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> Iterator[EncoderStates]:
        """Encode once and give the states after every layer, as an exit there would."""
        yield from self.encoder.each(*_completed(samples_BS, num_samples_B), schedule, chunk_frames)


def _completed(samples_BS: Tensor, num_samples_B: Tensor) -> tuple[Tensor, Tensor]:
    if samples_BS.shape[1] < RECEPTIVE_SAMPLES:
        samples_BS = F.pad(samples_BS, (0, RECEPTIVE_SAMPLES - samples_BS.shape[1]))
    return samples_BS, num_samples_B.clamp(min=RECEPTIVE_SAMPLES)


def last_layer(schedule: DepthSchedule) -> int:
    """Give the number of the last layer that runs, counted from 1; skips never change on the way."""
    strides = schedule.parts[0][1].strides
    return max(index for index, stride in enumerate(strides, start=1) if stride)


def _num_frames(num_samples_B: Tensor) -> Tensor:
    """Whole frames alone: nothing is padded."""
    for kernel, stride in zip(KERNELS, CONV_STRIDES, strict=True):
        num_samples_B = (num_samples_B - kernel) // stride + 1
    return num_samples_B
