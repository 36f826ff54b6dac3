"""Training the selector of layers: a hard choice forward, the gradient of a soft one backward.

Every layer runs at every stride on offer, and an utterance's own choice weighs what each changes, so
that utterances of one batch may run different plans and every gate hears what its layer would do.

Dimensions: B = utterances, T = encoder frames, D = channels, F = features, H = hidden channels,
L = layers, O = strides to pick from.

Source: straight-through gradients, Bengio et al., arXiv 1308.3432; Gumbel noise, Jang et al.,
arXiv 1611.01144.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from model_store.backbones.base import EncoderStates
from model_store.backbones.elastic import LayerRows
from model_store.backbones.masks import repeat_last
from model_store.backbones.moonshine import Moonshine
from model_store.depth import DepthPlan, DepthSchedule, Segment
from model_store.depth.plan import STRIDES
from model_store.depth.selector import (
    FIRST_CHUNK_SAMPLES,
    MODES,
    NUM_FEATURES,
    Selector,
    best_plan,
    pooled_features,
    reachable_units,
)
from model_store.training.config import LossConfig
from model_store.training.data import Batch
from model_store.training.losses import total_loss
from model_store.training.objective import Depth, scores
from model_store.training.precision import autocast

HIDDEN = 64


class SelectorNetwork(nn.Module):
    """The trainable form of `depth.selector.Selector`; equal scores from equal weights.

    Args:
        num_layers: of the encoder.
        mode: `skip` or `strides`.
        hidden: channels between the two layers of weights.
    """

    shift_F: Tensor
    scale_F: Tensor

    def __init__(self, num_layers: int, mode: str, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.mode = mode
        self.strides = MODES[mode]
        self.num_layers = num_layers
        self.hidden = nn.Linear(NUM_FEATURES, hidden)
        self.score = nn.Linear(hidden, num_layers * len(self.strides))
        self.register_buffer("shift_F", torch.zeros(NUM_FEATURES))
        self.register_buffer("scale_F", torch.ones(NUM_FEATURES))

    def fit_features(self, features_BF: Tensor) -> None:
        """Take mean and deviation of the features, the budget's place left as it is."""
        bands = NUM_FEATURES - 1
        self.shift_F[:bands] = features_BF[:, :bands].mean(0)
        self.scale_F[:bands] = 1 / features_BF[:, :bands].std(0).clamp(min=1e-3)

    def forward(self, features_BF: Tensor) -> Tensor:
        """Score every stride of every layer, (B, L, O)."""
        hidden_BH = torch.relu(self.hidden((features_BF - self.shift_F) * self.scale_F))
        return self.score(hidden_BH).unflatten(-1, (self.num_layers, len(self.strides)))

    def shipped(self) -> Selector:
        """Give the weights as they are served."""
        with torch.no_grad():
            options = len(self.strides)
            weights = {
                "shift_F": self.shift_F,
                "scale_F": self.scale_F,
                "hidden_HF": self.hidden.weight,
                "hidden_bias_H": self.hidden.bias,
                "score_LOH": self.score.weight.unflatten(0, (self.num_layers, options)),
                "score_bias_LO": self.score.bias.unflatten(0, (self.num_layers, options)),
            }
            return Selector.of(self.mode, {n: w.cpu().numpy().copy() for n, w in weights.items()})


def features(samples: Sequence[Tensor], budget: float, num_layers: int) -> Tensor:
    """Pool each utterance's spectrum as serving does, and add the budget, (B, F)."""
    pooled = np.stack([pooled_features(samples_S.numpy()) for samples_S in samples])
    share_B1 = np.full((len(samples), 1), budget / num_layers, np.float32)
    return torch.from_numpy(np.concatenate([pooled, share_B1], axis=1))


def gates(
    scores_BLO: Tensor,
    strides: Sequence[int],
    budget: float,
    *,
    gumbel: torch.Generator | None = None,
) -> Tensor:
    """Choose within the budget, one stride for each layer: 1 where chosen, else 0, (B, L, O).

    Args:
        scores_BLO: of the network.
        strides: what the last dimension stands for.
        budget: effective layers of every row.
        gumbel: adds noise to the scores, so that other plans are tried too; None for none.

    The gradient is that of the softmax over a layer's strides.
    """
    if gumbel is not None:
        uniform = torch.rand(scores_BLO.shape, generator=gumbel).clamp(1e-9, 1 - 1e-9)
        scores_BLO = scores_BLO - (-uniform.log()).log()
    units = reachable_units(scores_BLO.shape[1], strides, budget)
    hard_BLO = torch.zeros_like(scores_BLO)
    for row, scores_LO in enumerate(scores_BLO.detach().cpu().numpy()):
        plan = best_plan(scores_LO, strides, units)
        for layer, stride in enumerate(plan.strides):
            hard_BLO[row, layer, list(strides).index(stride)] = 1
    soft_BLO = scores_BLO.softmax(-1)
    return hard_BLO + soft_BLO - soft_BLO.detach()


def encode_gated(
    model: Moonshine,
    samples_BS: Tensor,
    num_samples_B: Tensor,
    gates_BLO: Tensor,
    strides: Sequence[int],
) -> EncoderStates:
    """Encode with full context, each utterance's layers weighed by its own gates."""
    encoder = model.encoder
    x_BTD, num_frames_B, ragged_B = encoder.frames(samples_BS, num_samples_B, None)
    num_frames = x_BTD.shape[1]
    rows_of = {
        stride: encoder.stack.rows(x_BTD, ragged_B, _uniform(stride, model.num_layers))
        for stride in strides
        if stride
    }
    last_BT1 = repeat_last(ragged_B, x_BTD)
    for index, layer in enumerate(encoder.stack.layers):
        change_BTD = torch.zeros_like(x_BTD)
        for place, stride in enumerate(strides):
            rows = (
                rows_of[stride](index) if stride else LayerRows((Segment(0, num_frames, 0),), None)
            )
            read_BTD = x_BTD
            if stride > 1 and last_BT1 is not None:
                read_BTD = x_BTD.gather(1, last_BT1.expand(-1, -1, x_BTD.shape[2]))
            changed_BTD = layer(read_BTD, rows) - read_BTD
            change_BTD = change_BTD + gates_BLO[:, index, place, None, None] * changed_BTD
        x_BTD = x_BTD + change_BTD
    return EncoderStates(encoder.norm(x_BTD), num_frames_B)


class SelectedModel(nn.Module):
    """A model and the network that picks its layers, trained together or the network alone."""

    def __init__(self, model: Moonshine, network: SelectorNetwork) -> None:
        super().__init__()
        self.model = model
        self.network = network

    @property
    def num_layers(self) -> int:
        """Encoder layers."""
        return self.model.num_layers


@dataclass(frozen=True, slots=True)
class SelectorObjective:
    """The losses of a read-out whose encoder runs the layers that the selector picked.

    Args:
        gumbel: noise on the scores.
        first_chunk: share of the steps in which the selector hears the first chunk alone, as it
            does in a stream.
    """

    gumbel: bool = False
    first_chunk: float = 0.5

    def __call__(
        self,
        student: SelectedModel,
        batch: Batch,
        depth: Depth,
        config: LossConfig,
        draw: torch.Generator,
    ) -> tuple[Tensor, dict[str, float]]:
        """Spend as many effective layers as the plan drawn has, on layers of the selector's choice."""
        model, network = student.model, student.network
        budget = depth.schedule.parts[0][1].effective_layers
        lengths = batch.num_samples_B.tolist()
        if float(torch.rand(1, generator=draw)) < self.first_chunk:
            lengths = [min(length, FIRST_CHUNK_SAMPLES) for length in lengths]
        heard = [row_S[:n].cpu() for row_S, n in zip(batch.samples_BS, lengths, strict=True)]
        device = batch.samples_BS.device
        scores_BLO = network(features(heard, budget, model.num_layers).to(device))
        gates_BLO = gates(scores_BLO, network.strides, budget, gumbel=draw if self.gumbel else None)
        with autocast():
            encoded = encode_gated(
                model, batch.samples_BS, batch.num_samples_B, gates_BLO, network.strides
            )
            logits_BUV = scores(model, batch, encoded)
        return total_loss(encoded.states_BTD, logits_BUV, batch.targets, config)


def _uniform(stride: int, num_layers: int) -> DepthSchedule:
    assert stride in STRIDES, f"expected a stride out of {STRIDES}, got {stride}"
    return DepthSchedule.constant(DepthPlan((stride,) * num_layers))
