"""What every backbone is to the rest: audio and a depth schedule in, states for a read-out out.

Dimensions: B = utterances, S = samples at 16 kHz, T = encoder frames, P = pooled frames,
U = tokens, D = channels, V = vocabulary.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from model_store.backbones.attention import DecoderCache, PooledStates, TokenCache
from model_store.depth import DepthSchedule


@dataclass(frozen=True, slots=True)
class EncoderStates:
    """Encoder output; rows past `num_frames_B` mean nothing."""

    states_BTD: Tensor
    num_frames_B: Tensor


class CtcModel(Protocol):
    """A backbone that scores its vocabulary, and a blank, at every frame."""

    @property
    def num_layers(self) -> int:
        """Encoder layers."""
        ...

    @property
    def frame_samples(self) -> int:
        """Samples from one frame's start to the next one's."""
        ...

    @property
    def vocabulary(self) -> int:
        """Tokens, the blank among them."""
        ...

    @property
    def blank(self) -> int:
        """The token that says nothing."""
        ...

    def num_frames(self, num_samples_B: Tensor) -> Tensor:
        """Encoder frames that utterances of so many samples give."""
        ...

    def encode(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> EncoderStates:
        """Encode whole utterances at the given depth; see `SpeechModel.encode`."""
        ...

    def log_probs(self, states_BTD: Tensor) -> Tensor:
        """Give the logarithm of each token's probability at every frame, (B, T, V), float32."""
        ...


class AttentionReadOut(Protocol):
    """An autoregressive decoder with a cache; the loop around it is `model_store.decoding`."""

    def pool(self, encoded: EncoderStates) -> PooledStates:
        """Shorten the encoder's output to what cross-attention sees."""
        ...

    def begin(self, pooled: PooledStates, max_tokens: int) -> DecoderCache:
        """Make the cache of one batch of transcripts."""
        ...

    def __call__(self, token_BU: Tensor, cache: TokenCache) -> Tensor:
        """Take further tokens; give the states after each, (B, U, D)."""
        ...

    def logits(self, state_BUD: Tensor) -> Tensor:
        """Score the vocabulary, (B, U, V)."""
        ...


class SpeechModel(Protocol):
    """A backbone with its read-out."""

    @property
    def num_layers(self) -> int:
        """Encoder layers."""
        ...

    @property
    def frame_samples(self) -> int:
        """Samples from one frame's start to the next one's."""
        ...

    @property
    def memory_frame_s(self) -> float:
        """Seconds of audio in one frame that the decoder sees."""
        ...

    @property
    def pads_input(self) -> bool:
        """Whether silence completes every utterance anyway, so that adding some changes nothing."""
        ...

    @property
    def prompt(self) -> tuple[int, ...]:
        """Tokens every transcript starts from."""
        ...

    @property
    def decoder(self) -> AttentionReadOut:
        """The read-out."""
        ...

    def num_frames(self, num_samples_B: Tensor) -> Tensor:
        """Encoder frames that utterances of so many samples give."""
        ...

    def encode(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> EncoderStates:
        """Encode whole utterances at the given depth.

        Args:
            samples_BS: float32 in [-1, 1], 16 kHz.
            num_samples_B: valid samples of each utterance.
            schedule: stride of each layer along the utterance.
            chunk_frames: attend to no later chunk than one's own; None for full context.
        """
        ...


__all__ = [
    "AttentionReadOut",
    "CtcModel",
    "DecoderCache",
    "EncoderStates",
    "PooledStates",
    "SpeechModel",
]
