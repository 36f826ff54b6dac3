"""A small read-out beside an attention decoder: scores for letters or pieces at every frame.

The encoder and its decoder stay as they are; the head reads the same states. A frame's scores
depend on states up to it alone, so a stream's head keeps what `begin` gives and nothing else.

Dimensions: B = utterances, S = samples, T = encoder frames, D = channels, N = frames kept from
before, V = vocabulary.

Source: Graves et al., Connectionist Temporal Classification, ICML 2006; Watanabe et al., Hybrid
CTC/Attention Architecture, IEEE JSTSP 2017, for a head beside a decoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.base import EncoderStates
from model_store.backbones.build import SpeechModule
from model_store.depth import DepthSchedule
from model_store.text.bpe import BLANK


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """Sizes of a head.

    Args:
        dim: channels of the encoder's states.
        vocabulary: tokens, the blank among them.
        hidden: inner width; 0 scores the normalised states as they are.
        taps: frames that the hidden layer reads, the last one its own.
        dropout: share of the inputs and the hidden values left out in training.
    """

    dim: int
    vocabulary: int
    hidden: int = 0
    taps: int = 1
    dropout: float = 0.1


class CtcHead(nn.Module):
    """LayerNorm, a hidden layer or none, and scores."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden or config.dim
        self.norm = nn.LayerNorm(config.dim)
        self.hidden = nn.Conv1d(config.dim, width, config.taps) if config.hidden else None
        self.scores = nn.Linear(width, config.vocabulary)

    @property
    def num_parameters(self) -> int:
        """Weights and biases."""
        return sum(parameter.numel() for parameter in self.parameters())

    def begin(self, batch: int) -> Tensor:
        """Give what a head keeps before the first frame: before_BND, of zeros."""
        return self.scores.weight.new_zeros(batch, self.config.taps - 1, self.config.dim)

    def forward(self, states_BTD: Tensor) -> Tensor:
        """Score every frame of whole utterances; log-probabilities, (B, T, V), float32."""
        return self.step(states_BTD, self.begin(len(states_BTD)))[0]

    def step(self, states_BTD: Tensor, before_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Score further frames; give their log-probabilities and the frames to keep."""
        x_BTD = self._dropped(self.norm(states_BTD.float()))
        if self.hidden is not None:
            joined_BTD = torch.cat([before_BND, x_BTD], dim=1)
            before_BND = joined_BTD[:, joined_BTD.shape[1] - before_BND.shape[1] :]
            x_BTD = F.gelu(self.hidden(joined_BTD.transpose(1, 2))).transpose(1, 2)
            x_BTD = self._dropped(x_BTD)
        return self.scores(x_BTD).float().log_softmax(-1), before_BND

    def _dropped(self, x_BTD: Tensor) -> Tensor:
        return F.dropout(x_BTD, self.config.dropout, self.training)


class HeadedModel:
    """A model whose encoder is read by a head; see `backbones.base.CtcModel`.

    Args:
        model: brings the encoder.
        head: reads its states.
    """

    def __init__(self, model: SpeechModule, head: CtcHead) -> None:
        self._model = model
        self._head = head

    @property
    def num_layers(self) -> int:
        """Encoder layers."""
        return self._model.num_layers

    @property
    def frame_samples(self) -> int:
        """Samples from one frame's start to the next one's."""
        return self._model.frame_samples

    @property
    def vocabulary(self) -> int:
        """Tokens, the blank among them."""
        return self._head.config.vocabulary

    @property
    def blank(self) -> int:
        """The token that says nothing."""
        return BLANK

    def num_frames(self, num_samples_B: Tensor) -> Tensor:
        """Encoder frames that utterances of so many samples give."""
        return self._model.num_frames(num_samples_B)

    def encode(
        self,
        samples_BS: Tensor,
        num_samples_B: Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> EncoderStates:
        """Encode whole utterances at the given depth."""
        return self._model.encode(samples_BS, num_samples_B, schedule, chunk_frames)

    def log_probs(self, states_BTD: Tensor) -> Tensor:
        """Give the logarithm of each token's probability at every frame, (B, T, V), float32."""
        return self._head(states_BTD)
