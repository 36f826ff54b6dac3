"""Whisper: log-mel features in, an elastic encoder with absolute positions, its own decoder.

Dimensions: B = utterances, S = samples at 16 kHz, M = mel bands, N = windows (10 ms), T = encoder
frames (20 ms), U = tokens, L = token positions, R = frames of a pooled group, D = channels,
V = vocabulary.

Source: Radford et al., Whisper, arXiv 2212.04356; weights by OpenAI (MIT).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.attention import CrossAttention, DecoderCache, TokenCache, pool_memory
from model_store.backbones.base import EncoderStates, PooledStates
from model_store.backbones.blocks import DecoderBlock, EncoderBlock
from model_store.backbones.elastic import ElasticLayer, ElasticStack, RowContext
from model_store.backbones.log_mel import HOP_SAMPLES, SAMPLE_RATE_HZ, LogMel
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import AudioTooLong

FRAME_SAMPLES = 2 * HOP_SAMPLES
"""Samples from one frame's start to the next one's: 20 ms."""

LONGEST_WAVELENGTH = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperConfig:
    """Sizes of a Whisper model, as its checkpoint states them.

    Args:
        mels: mel bands, 80 or 128.
        source_positions: most encoder frames.
        target_positions: most tokens, the prompt's among them.
        prompt: tokens every transcript starts from: start, then language and task where the model
            knows several, then "no timestamps".
        end_token: ends a transcript; the tokens after it are for control and never text.
        suppressed: further tokens that no transcript has (musical notes, speaker marks).
        pad_to_s: silence completes every utterance to this length, as the published weights were
            trained; 0 takes it at its own length, which training has to teach first.
        memory_pool: encoder frames that the decoder sees as one, 1 = as published.
        bypass_rank: inner width of a skipped layer's bypass; 0 = skipping is the identity.
    """

    dim: int
    inner_dim: int
    num_heads: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int
    prompt: tuple[int, ...]
    end_token: int
    suppressed: tuple[int, ...] = ()
    mels: int = 80
    source_positions: int = 1500
    target_positions: int = 448
    pad_to_s: float = 30.0
    memory_pool: int = 1
    bypass_rank: int = 0


class FrontEnd(nn.Module):
    """Log-mel features, two padded convolutions, sinusoidal positions."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.log_mel = LogMel(config.mels)
        self.conv1 = nn.Conv1d(config.mels, config.dim, 3, padding=1)
        self.conv2 = nn.Conv1d(config.dim, config.dim, 3, stride=2, padding=1)
        position_TD = sinusoids(config.source_positions, config.dim)
        self.register_buffer("position_TD", position_TD, persistent=False)

    def forward(
        self, samples_BS: Tensor, num_samples_B: Tensor, num_windows_B: Tensor, *, running: bool
    ) -> Tensor:
        """Turn samples into frames; frame t hears samples up to 320 t + 520.

        Args:
            samples_BS: in [-1, 1]; what lies past an utterance's end does not matter.
            num_samples_B: valid samples of each utterance.
            num_windows_B: windows of 10 ms to hear of each utterance, silence past its end included.
            running: clamp the features below a fixed maximum, which needs nothing of the future.

        Shapes:
            out: x_BTD, T = (the most windows + 1) // 2.
        """
        mel_BMN = self.log_mel(samples_BS, num_samples_B, num_windows_B, running=running)
        window_N = torch.arange(mel_BMN.shape[2], device=mel_BMN.device)
        # A longer neighbour's windows are to be to an utterance what the end of the input is.
        valid_B1N = (window_N < num_windows_B[:, None]).unsqueeze(1)
        y_BDN = F.gelu(self.conv1(mel_BMN)) * valid_B1N
        x_BTD = F.gelu(self.conv2(y_BDN)).transpose(1, 2)
        return x_BTD + self.get_buffer("position_TD")[: x_BTD.shape[1]]


class Encoder(nn.Module):
    """Front end, elastic layers, final norm."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.front_end = FrontEnd(config)
        layers = [
            ElasticLayer(
                EncoderBlock(config.dim, config.num_heads, config.inner_dim, bias=True),
                config.dim,
                config.bypass_rank,
            )
            for _ in range(config.encoder_layers)
        ]
        self.stack = ElasticStack(layers)
        self.norm = nn.LayerNorm(config.dim)

    def forward(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        num_windows_B: Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> EncoderStates:
        """Encode whole utterances; a chunk mask brings a fixed clamp of the features with it."""
        running = chunk_frames is not None
        x_BTD = self.front_end(samples_BS, num_samples_B, num_windows_B, running=running)
        num_frames_B = (num_windows_B + 1) // 2
        ragged_B = None if bool((num_frames_B == x_BTD.shape[1]).all()) else num_frames_B
        states_BTD = self.norm(self.stack(x_BTD, ragged_B, schedule, chunk_frames))
        return EncoderStates(states_BTD, num_frames_B)


class Decoder(nn.Module):
    """Decoder with learned positions; its output rows are tied to the token embedding."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.dim)
        self.position_LD = nn.Parameter(torch.zeros(config.target_positions, config.dim))
        self.layers = nn.ModuleList(
            DecoderBlock(config.dim, config.num_heads, config.inner_dim, bias=True, gated=False)
            for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.pool_RD = nn.Parameter(
            torch.full((config.memory_pool, config.dim), 1 / config.memory_pool)
        )
        suppressed_V = torch.arange(config.vocabulary) > config.end_token
        suppressed_V[list(config.suppressed)] = True
        self.register_buffer("suppressed_V", suppressed_V, persistent=False)

    def pool(self, encoded: EncoderStates) -> PooledStates:
        """Average each `memory_pool` frames; the last group repeats the utterance's last frame."""
        return pool_memory(encoded.states_BTD, encoded.num_frames_B, self.pool_RD)

    def begin(self, pooled: PooledStates, max_tokens: int) -> DecoderCache:
        """Project the cross-attention keys and values once, and make room for tokens."""
        positions = self.position_LD.shape[0]
        assert max_tokens <= positions, f"expected at most {positions} tokens, got {max_tokens}"
        cross: list[CrossAttention] = [layer.cross for layer in self.layers]  # pyright: ignore[reportAssignmentType]
        return DecoderCache.begin(cross, pooled, max_tokens)

    def forward(self, token_BU: Tensor, cache: TokenCache) -> Tensor:
        """Take further tokens; give the states after each, (B, U, D)."""
        new_tokens = token_BU.shape[1]
        position_U = cache.positions(new_tokens)
        context = RowContext(0, position_U, cache.causal_mask(new_tokens), None, None)
        x_BUD = self.embedding(token_BU).float() + self.position_LD[position_U]
        for index, layer in enumerate(self.layers):
            x_BUD = layer(x_BUD, context, index, cache)
        cache.advance(new_tokens)
        return self.norm(x_BUD)

    def logits(self, state_BUD: Tensor) -> Tensor:
        """Score the vocabulary; outside training, what is never text gets -inf.

        Training scores it too, since written transcripts hold some of it (quotes, brackets).
        """
        logits_BUV = F.linear(
            state_BUD.to(self.embedding.weight.dtype), self.embedding.weight
        ).float()
        if self.training:
            return logits_BUV
        return logits_BUV.masked_fill(self.get_buffer("suppressed_V"), -torch.inf)


class Whisper(nn.Module):
    """Elastic encoder and its decoder; see `backbones.base.SpeechModel`."""

    backbone: ClassVar[str] = "whisper"

    def __init__(self, config: WhisperConfig) -> None:
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
        return self.config.pad_to_s > 0

    @property
    def prompt(self) -> tuple[int, ...]:
        """Tokens every transcript starts from."""
        return self.config.prompt

    def num_frames(self, num_samples_B: Tensor) -> Tensor:
        """Frames that utterances give, silence that completes them included."""
        return (self._num_windows(num_samples_B) + 1) // 2

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
        """Encode a batch of utterances.

        Raises:
            AudioTooLong: an utterance has more frames than the encoder has positions.
        """
        num_windows_B = self._num_windows(num_samples_B)
        positions = self.config.source_positions
        if int(num_windows_B.max()) > 2 * positions:
            raise AudioTooLong(positions * FRAME_SAMPLES / SAMPLE_RATE_HZ)
        return self.encoder(samples_BS, num_samples_B, num_windows_B, schedule, chunk_frames)

    def _num_windows(self, num_samples_B: Tensor) -> Tensor:
        padded = round(self.config.pad_to_s * SAMPLE_RATE_HZ) // HOP_SAMPLES
        return (num_samples_B // HOP_SAMPLES).clamp(min=max(1, padded))


def sinusoids(length: int, dim: int) -> Tensor:
    """Sines, then cosines, of positions at wavelengths in geometric series, (length, dim)."""
    half = dim // 2
    rate_D = torch.exp(-math.log(LONGEST_WAVELENGTH) / (half - 1) * torch.arange(half))
    angle_TD = torch.arange(length)[:, None] * rate_D
    return torch.cat((angle_TD.sin(), angle_TD.cos()), dim=1)
