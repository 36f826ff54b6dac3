"""What a step is to make smaller: the read-out's losses along the text, at the last layer and at exits.

Dimensions: B = utterances, T = encoder frames, D = channels, U = predicted tokens, V = vocabulary.
"""

import dataclasses
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from model_store.backbones import SpeechModule
from model_store.backbones.base import EncoderStates
from model_store.backbones.moonshine import Moonshine
from model_store.depth import DepthSchedule
from model_store.errors import RunConfigError
from model_store.training.config import LossConfig
from model_store.training.data import Batch
from model_store.training.losses import Targets, exits_loss, total_loss
from model_store.training.precision import autocast

Student_contra = TypeVar("Student_contra", contravariant=True)
Batch_contra = TypeVar("Batch_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Depth:
    """What a step runs at: the schedule, and the chunk mask in frames or None for full context."""

    schedule: DepthSchedule
    chunk_frames: int | None = None


class Objective(Protocol[Student_contra, Batch_contra]):
    """What a step makes smaller."""

    def __call__(
        self,
        student: Student_contra,
        batch: Batch_contra,
        depth: Depth,
        config: LossConfig,
        draw: torch.Generator,
    ) -> tuple[Tensor, dict[str, float]]:
        """Run a batch forward; give its loss, and the parts by name, unweighted.

        Args:
            student: in training mode.
            batch: where the student is.
            depth: of this step.
            config: the weights of the losses.
            draw: for what chance decides beside the depth; a resumed run draws on.
        """
        ...


@dataclass(frozen=True, slots=True)
class ReadOut:
    """The losses of an attention decoder's text, at the last layer and at exits."""

    def __call__(
        self,
        student: SpeechModule,
        batch: Batch,
        depth: Depth,
        config: LossConfig,
        draw: torch.Generator,
    ) -> tuple[Tensor, dict[str, float]]:
        """See `objective`; nothing is drawn."""
        del draw
        return objective(student, batch, depth.schedule, depth.chunk_frames, config)


def objective(
    student: SpeechModule,
    batch: Batch,
    schedule: DepthSchedule,
    chunk_frames: int | None,
    config: LossConfig,
) -> tuple[Tensor, dict[str, float]]:
    """Run a batch forward and give its loss, and the parts by name, unweighted.

    Raises:
        RunConfigError: exits are asked for that the student does not have.
    """
    if config.exits:
        with autocast():
            encoded, logits = forced_at_exits(student, batch, schedule, chunk_frames, config.exits)
        return exits_loss(logits, encoded.states_BTD, batch.targets, config)
    with autocast():
        encoded, logits_BUV = forced(student, batch, schedule, chunk_frames)
    states_BTD, targets = encoded.states_BTD, batch.targets
    if config.features_of == "memory":
        states_BTD, targets = as_memory(student, encoded, targets)
    return total_loss(states_BTD, logits_BUV, targets, config)


def forced(
    student: SpeechModule, batch: Batch, schedule: DepthSchedule, chunk_frames: int | None
) -> tuple[EncoderStates, Tensor]:
    """Give encoder states and the decoder's scores along the batch's text."""
    encoded = student.encode(batch.samples_BS, batch.num_samples_B, schedule, chunk_frames)
    return encoded, scores(student, batch, encoded)


def forced_at_exits(
    student: SpeechModule,
    batch: Batch,
    schedule: DepthSchedule,
    chunk_frames: int | None,
    exits: tuple[int, ...],
) -> tuple[EncoderStates, list[Tensor]]:
    """Give the last layer's states, and the decoder's scores at every exit and at the last layer.

    Raises:
        RunConfigError: the student has no such exits.
    """
    if not isinstance(student, Moonshine) or not set(exits) <= set(student.config.exits):
        raise RunConfigError(f"expected a student with exits {list(exits)}, got one without")
    states = list(
        student.encode_each(batch.samples_BS, batch.num_samples_B, schedule, chunk_frames)
    )
    read = [*(states[layers - 1] for layers in exits), states[-1]]
    return states[-1], [scores(student, batch, encoded) for encoded in read]


def scores(student: SpeechModule, batch: Batch, encoded: EncoderStates) -> Tensor:
    """Give the decoder's scores along the batch's text, (B, U, V)."""
    cache = student.decoder.begin(student.decoder.pool(encoded), batch.input_BU.shape[1])
    state_BUD = student.decoder(batch.input_BU, cache)
    first = len(student.prompt) - 1
    return student.decoder.logits(state_BUD[:, first:])


def as_memory(
    student: SpeechModule, encoded: EncoderStates, targets: Targets
) -> tuple[Tensor, Targets]:
    """Give the student's states and the reference's as the student's decoder pools them."""
    pooled = student.decoder.pool(encoded)
    frames_B = targets.frame_BT.sum(1)
    with torch.no_grad():
        wanted = student.decoder.pool(EncoderStates(targets.states_BTD.float(), frames_B))
    rows = torch.arange(wanted.states_BPD.shape[1], device=frames_B.device)
    return pooled.states_BPD, dataclasses.replace(
        targets, states_BTD=wanted.states_BPD, frame_BT=rows < wanted.num_rows_B[:, None]
    )
