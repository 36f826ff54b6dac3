"""The losses of distillation-based layer dropping, each with an explicit normalisation.

Dimensions: B = utterances, T = encoder frames, D = channels, U = predicted tokens, V = vocabulary,
K = the reference's likeliest tokens.

Source: Hannan et al., Distillation-based Layer Dropping, arXiv 2601.16117 (task loss plus
KL(reference || student) on the output posteriors); the feature loss is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model_store.training.config import LossConfig, Normalisation


@dataclass(frozen=True, slots=True)
class Targets:
    """What one batch is to come near to.

    Args:
        states_BTD: the reference's encoder output.
        frame_BT: frames that count.
        token_BU: the text, the end token last.
        scored_BU: tokens of the text that count, the end token not among them.
        end_BU: the end token's place, where it is asked for.
        top_token_BUK, top_logp_BUK: the reference's likeliest tokens.
    """

    states_BTD: Tensor
    frame_BT: Tensor
    token_BU: Tensor
    scored_BU: Tensor
    end_BU: Tensor
    top_token_BUK: Tensor
    top_logp_BUK: Tensor


def total_loss(
    states_BTD: Tensor, logits_BUV: Tensor, targets: Targets, config: LossConfig
) -> tuple[Tensor, dict[str, float]]:
    """Weigh and add the losses; also give each by name, unweighted."""
    logp_BUV = logits_BUV.float().log_softmax(-1)
    asked_BU = targets.scored_BU | targets.end_BU
    token_logp_BU = logp_BUV.gather(-1, targets.token_BU.unsqueeze(-1)).squeeze(-1)
    parts = {
        "features": normalised(
            feature_error(states_BTD, targets), targets.frame_BT, config.features_per
        ),
        "kl": normalised(
            kl_divergence(logp_BUV, targets, config.kl_temperature), asked_BU, config.kl_per
        ),
        "task": normalised(-token_logp_BU, targets.scored_BU, config.task_per),
        "end": normalised(-token_logp_BU, targets.end_BU, "token"),
    }
    weights = {
        "features": config.features,
        "kl": config.kl,
        "task": config.task,
        "end": config.end,
    }
    total = sum((weights[name] * value for name, value in parts.items()), torch.zeros(()))
    return total, {name: float(value.detach()) for name, value in parts.items()}


def feature_error(states_BTD: Tensor, targets: Targets) -> Tensor:
    """Squared error over the reference's variance, by frame, (B, T)."""
    reference_BTD = targets.states_BTD.float()
    variance = reference_BTD[targets.frame_BT].var()
    return (states_BTD.float() - reference_BTD).square().mean(-1) / variance


def exits_loss(
    logits_of_exits: Sequence[Tensor], states_BTD: Tensor, targets: Targets, config: LossConfig
) -> tuple[Tensor, dict[str, float]]:
    """Add the losses of every exit up; the last layer's comes last and is what the parts name.

    Args:
        logits_of_exits: of every exit, (B, U, V) each, the last layer's among them as the last.
        states_BTD: the last layer's.
        targets: of the batch.
        config: weights; with `exit_kl` the last layer teaches the exits before it.
    """
    total, parts = total_loss(states_BTD, logits_of_exits[-1], targets, config)
    teacher_logp_BUV = logits_of_exits[-1].detach().float().log_softmax(-1)
    asked_BU = targets.scored_BU | targets.end_BU
    for place, logits_BUV in enumerate(logits_of_exits[:-1]):
        loss, at_exit = total_loss(states_BTD, logits_BUV, targets, config)
        total = total + config.exit_task * loss
        parts[f"task_exit{place}"] = at_exit["task"]
        if config.exit_kl:
            logp_BUV = logits_BUV.float().log_softmax(-1)
            kl_BU = (teacher_logp_BUV.exp() * (teacher_logp_BUV - logp_BUV)).sum(-1)
            total = total + config.exit_kl * normalised(kl_BU, asked_BU, config.kl_per)
    return total, parts


def kl_divergence(logp_BUV: Tensor, targets: Targets, temperature: float = 1.0) -> Tensor:
    """KL(reference || student) over the reference's K likeliest tokens and the rest as one, (B, U).

    At a temperature other than 1 what the rest would weigh is not known: both sides are then of the
    K tokens alone, and the result is multiplied by the temperature's square.
    """
    logq_BUK = logp_BUV.gather(-1, targets.top_token_BUK)
    if temperature != 1:
        soft_logp_BUK = (targets.top_logp_BUK.float() / temperature).log_softmax(-1)
        soft_logq_BUK = (logq_BUK / temperature).log_softmax(-1)
        kl_BU = (soft_logp_BUK.exp() * (soft_logp_BUK - soft_logq_BUK)).sum(-1)
        return temperature**2 * kl_BU
    p_BUK = targets.top_logp_BUK.float().exp()
    rest_p_BU = (1 - p_BUK.sum(-1)).clamp(min=1e-6)
    rest_q_BU = (1 - logq_BUK.exp().sum(-1)).clamp(min=1e-6)
    inside_BU = (p_BUK * (targets.top_logp_BUK.float() - logq_BUK)).sum(-1)
    return inside_BU + rest_p_BU * (rest_p_BU.log() - rest_q_BU.log())


def normalised(value_BN: Tensor, mask_BN: Tensor, per: Normalisation) -> Tensor:
    """Reduce by place: mean over the places that count, or their sum over the utterances."""
    total = (value_BN * mask_BN).sum()
    count = mask_BN.sum().clamp(min=1) if per == "token" else mask_BN.shape[0]
    return total / count
