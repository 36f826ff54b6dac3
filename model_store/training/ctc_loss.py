"""The losses of models that score every frame: CTC, and the distance of two models' posteriors.

Padding counts in neither. Each has its normalisation as a switch, since the published code's own
choices (CTC by target token, KL summed over time and vocabulary) weigh the two very differently.

Dimensions: B = utterances, T = encoder frames, U = target tokens, V = vocabulary.

Source: Graves et al., Connectionist Temporal Classification, ICML 2006; Hannan et al.,
Distillation-based Layer Dropping, arXiv 2601.16117.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def ctc_loss(
    log_probs_BTV: Tensor,
    num_frames_B: Tensor,
    token_BU: Tensor,
    num_tokens_B: Tensor,
    *,
    blank: int,
    per: Literal["token", "utterance"] = "token",
) -> Tensor:
    """Give the mean over utterances of -log p(text | audio).

    Args:
        log_probs_BTV: of a model's read-out.
        num_frames_B: valid frames.
        token_BU: targets; those past `num_tokens_B` do not matter.
        num_tokens_B: targets of each utterance.
        blank: the token that says nothing.
        per: divide each utterance's by its targets first, as torch's mean does, or not.

    An utterance with too few frames for its text adds nothing.
    """
    loss_B = F.ctc_loss(
        log_probs_BTV.float().transpose(0, 1),
        token_BU,
        num_frames_B,
        num_tokens_B,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    return (loss_B / num_tokens_B.clamp(min=1)).mean() if per == "token" else loss_B.mean()


def posterior_kl(
    student_BTV: Tensor,
    teacher_BTV: Tensor,
    num_frames_B: Tensor,
    *,
    per: Literal["frame", "utterance"] = "frame",
    temperature: float = 1.0,
) -> Tensor:
    """Give KL(teacher || student) of two models' posteriors over the same frames.

    Args:
        student_BTV: log-probabilities.
        teacher_BTV: log-probabilities; they get no gradient.
        num_frames_B: valid frames.
        per: mean over valid frames, or their sum over the utterances (`batchmean`).
        temperature: softens both; the result is scaled by its square, so that gradients keep
            their size.
    """
    logq_BTV, logp_BTV = (
        (log_probs.float() / temperature).log_softmax(-1)
        for log_probs in (student_BTV, teacher_BTV.detach())
    )
    kl_BT = F.kl_div(logq_BTV, logp_BTV, reduction="none", log_target=True).sum(-1)
    valid_BT = torch.arange(kl_BT.shape[1], device=kl_BT.device) < num_frames_B[:, None]
    total = (kl_BT * valid_BT).sum() * temperature**2
    return total / (valid_BT.sum().clamp(min=1) if per == "frame" else len(num_frames_B))
