"""Training models that score every frame: batches from manifests, and the papers' losses on them.

Audio is read as it is needed, so that a corpus of any size fits; the teacher, where there is one,
hears the same batch in the step. An exit is a layer's output, through the norm its block ends in,
into the one head. Dimensions: B = utterances, S = samples, T = encoder frames, U = target tokens,
V = vocabulary.

Source: Hannan et al., LDASR and DLD (arXiv 2601.16117); Lee et al., Layer Pruning on Demand with
Intermediate CTC, arXiv 2106.09216; Wright et al., arXiv 2309.09546.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from model_store.audio import SAMPLE_RATE_HZ, read_audio
from model_store.backbones import CtcModule
from model_store.backbones.base import EncoderStates
from model_store.backbones.conformer import Conformer
from model_store.backbones.parameters import BY_STRIDE
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import RunConfigError
from model_store.text.bpe import END, START
from model_store.text.tokens import Tokenizer
from model_store.training.config import LossConfig, OptimiserConfig
from model_store.training.ctc_loss import ctc_loss, posterior_kl
from model_store.training.manifest import Utterance
from model_store.training.objective import Depth
from model_store.training.precision import autocast

MOST_CHARACTERS = 400
"""Longer transcripts are left out, as the papers' code does."""

POOL = 2048
"""Utterances that are sorted by length together."""


@dataclass(frozen=True, slots=True)
class CtcBatch:
    """One step's audio and texts."""

    samples_BS: Tensor
    num_samples_B: Tensor
    token_BU: Tensor
    num_tokens_B: Tensor
    num_frames: int

    @property
    def seconds(self) -> float:
        """Audio in the batch, padding left out."""
        return float(self.num_samples_B.sum()) / SAMPLE_RATE_HZ

    def to(self, device: torch.device) -> "CtcBatch":
        """Bring a batch to a device."""
        return CtcBatch(
            self.samples_BS.to(device),
            self.num_samples_B.to(device),
            self.token_BU.to(device),
            self.num_tokens_B.to(device),
            self.num_frames,
        )


class SpokenBatches:
    """Endless batches of similar lengths, each by seed and step alone.

    Args:
        utterances: transcribed ones; those without a word in the tokenizer's text, or with too
            much of it, are left out.
        tokenizer: of the student.
        student: says how many frames samples give, and how targets are wrapped.
        batch_s: seconds of audio in a step, padding included.
        seed: of the order.

    Raises:
        RunConfigError: nothing is left.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        tokenizer: Tokenizer,
        student: CtcModule,
        batch_s: float,
        seed: int,
    ) -> None:
        # Only what is said counts: a transcript of signs alone may have no token.
        self._kept = [
            u
            for u in utterances
            if len(u.transcript) <= MOST_CHARACTERS and tokenizer.encode(u.transcript)
        ]
        if not self._kept:
            raise RunConfigError("expected transcribed utterances to train on, got none")
        self._tokenizer = tokenizer
        self._student = student
        self._batch_s = batch_s
        self._seed = seed

    def steps(self, start: int = 0) -> Iterator[CtcBatch]:
        """Give the batches from a step on; those before are not read."""
        step = epoch = 0
        while True:
            for group in self._epoch(epoch):
                if step >= start:
                    yield self._batch(group)
                step += 1
            epoch += 1

    def _epoch(self, epoch: int) -> list[list[Utterance]]:
        draw = np.random.default_rng((self._seed, epoch))
        shuffled = [self._kept[place] for place in draw.permutation(len(self._kept))]
        groups: list[list[Utterance]] = []
        for start in range(0, len(shuffled), POOL):
            group: list[Utterance] = []
            for item in sorted(shuffled[start : start + POOL], key=attrgetter("seconds", "id")):
                if group and (len(group) + 1) * item.seconds > self._batch_s:
                    groups.append(group)
                    group = []
                group.append(item)
            groups.append(group)
        return [groups[place] for place in draw.permutation(len(groups))]

    def _batch(self, group: Sequence[Utterance]) -> CtcBatch:
        samples = [torch.from_numpy(read_audio(item.path)) for item in group]
        tokens = [torch.tensor(self._targets(item.transcript), dtype=torch.long) for item in group]
        num_samples_B = torch.tensor([len(samples_S) for samples_S in samples])
        return CtcBatch(
            pad_sequence(samples, batch_first=True),
            num_samples_B,
            pad_sequence(tokens, batch_first=True),
            torch.tensor([len(token_U) for token_U in tokens]),
            int(self._student.num_frames(num_samples_B).max()),
        )

    def _targets(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text)
        wrapped = isinstance(self._student, Conformer) and self._student.config.wrapped_targets
        return [START, *ids, END] if wrapped else ids


@dataclass(frozen=True, slots=True)
class CtcObjective:
    """CTC, the distance to a teacher's posteriors, and CTC at exits.

    Args:
        teacher: frozen, runs every layer; None for training without one.
    """

    teacher: CtcModule | None = None

    def __call__(
        self,
        student: CtcModule,
        batch: CtcBatch,
        depth: Depth,
        config: LossConfig,
        draw: torch.Generator,
    ) -> tuple[Tensor, dict[str, float]]:
        """Weigh and add the losses; nothing is drawn.

        Raises:
            RunConfigError: the KL is weighed and there is no teacher.
        """
        del draw
        if config.kl and self.teacher is None:
            raise RunConfigError("expected a teacher for loss.kl, got none")
        with autocast():
            encoded, at_exits = states_at_exits(student, batch, depth, config.exits)
            logp_BTV = student.log_probs(encoded.states_BTD)
        found: dict[str, Tensor] = {"task": self._ctc(logp_BTV, encoded, batch, student, config)}
        weights = {"task": config.task}
        if self.teacher is not None and config.kl:
            found["kl"] = _kl(logp_BTV, self._teacher_logp(batch), encoded, config)
            weights["kl"] = config.kl
        for layers, exit_BTD in zip(config.exits, at_exits, strict=True):
            with autocast():
                exit_logp_BTV = student.log_probs(exit_BTD)
            name = f"task_exit{layers}"
            found[name] = self._ctc(exit_logp_BTV, encoded, batch, student, config)
            weights[name] = config.task * config.exit_task
            if config.exit_kl:
                found[f"kl_exit{layers}"] = _kl(exit_logp_BTV, logp_BTV, encoded, config)
                weights[f"kl_exit{layers}"] = config.exit_kl
        total = sum((weights[n] * value for n, value in found.items()), torch.zeros(()))
        return total, {name: float(value.detach()) for name, value in found.items()}

    def _teacher_logp(self, batch: CtcBatch) -> Tensor:
        teacher = self.teacher
        assert teacher is not None, "asked for where there is one"
        full = DepthSchedule.constant(DepthPlan.full(teacher.num_layers))
        with torch.no_grad(), autocast():
            encoded = teacher.encode(batch.samples_BS, batch.num_samples_B, full)
            return teacher.log_probs(encoded.states_BTD)

    def _ctc(
        self,
        logp_BTV: Tensor,
        encoded: EncoderStates,
        batch: CtcBatch,
        student: CtcModule,
        config: LossConfig,
    ) -> Tensor:
        return ctc_loss(
            logp_BTV,
            encoded.num_frames_B,
            batch.token_BU,
            batch.num_tokens_B,
            blank=student.blank,
            per=config.task_per,
        )


def _kl(logp_BTV: Tensor, taught_BTV: Tensor, encoded: EncoderStates, config: LossConfig) -> Tensor:
    return posterior_kl(
        logp_BTV,
        taught_BTV,
        encoded.num_frames_B,
        per="frame" if config.kl_per == "token" else "utterance",
        temperature=config.kl_temperature,
    )


def states_at_exits(
    student: CtcModule, batch: CtcBatch, depth: Depth, exits: Sequence[int]
) -> tuple[EncoderStates, list[Tensor]]:
    """Encode once; give the last layer's states, and those that the head reads after each exit."""
    stack = student.encoder.stack
    kept: dict[int, Tensor] = {}

    def keep(layers: int) -> "torch.utils.hooks.RemovableHandle":
        def hook(_module: nn.Module, _given: object, states_BTD: Tensor) -> None:
            kept[layers] = student.encoder.exit_states(states_BTD)

        return stack.layers[layers - 1].register_forward_hook(hook)

    handles = [keep(layers) for layers in exits]
    try:
        encoded = student.encode(
            batch.samples_BS, batch.num_samples_B, depth.schedule, depth.chunk_frames
        )
    finally:
        for handle in handles:
            handle.remove()
    return encoded, [kept[layers] for layers in exits]


def ctc_groups(student: nn.Module, config: OptimiserConfig) -> list[dict[str, object]]:
    """Give every parameter the rate of the layers; nothing stays as it is, and norms do not decay."""
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        # Norms and means have a row for each stride or frame: their shape does not tell them.
        weights = parameter.dim() > 1 and not name.endswith(BY_STRIDE) and "_RD." not in name
        (decaying if weights else others).append(parameter)
    rate = config.layers
    return [
        {"params": decaying, "lr": rate, "peak": rate, "weight_decay": config.weight_decay},
        {"params": others, "lr": rate, "peak": rate, "weight_decay": 0.0},
    ]
