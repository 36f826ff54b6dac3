"""Training a CTC head on states that are kept: batches of them, and what a step makes smaller.

Dimensions: B = utterances, T = encoder frames, D = channels, U = target tokens, V = vocabulary.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from model_store.backbones.ctc_head import CtcHead
from model_store.errors import RunConfigError
from model_store.text.bpe import BLANK
from model_store.text.tokens import Tokenizer
from model_store.training.config import LossConfig
from model_store.training.ctc_loss import ctc_loss
from model_store.training.objective import Depth
from model_store.training.precision import autocast

POOL = 512
"""Utterances that are sorted by length together."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """The states of one utterance and its text.

    Args:
        states_TD: of half precision.
        text: normalised.
    """

    states_TD: Tensor
    text: str


@dataclass(frozen=True, slots=True)
class HeadBatch:
    """One step's states and targets."""

    states_BTD: Tensor
    num_frames_B: Tensor
    token_BU: Tensor
    num_tokens_B: Tensor
    seconds: float

    @property
    def num_frames(self) -> int:
        """Frames of the longest utterance."""
        return self.states_BTD.shape[1]

    def to(self, device: torch.device) -> "HeadBatch":
        """Bring a batch to a device."""
        names = ("states_BTD", "num_frames_B", "token_BU", "num_tokens_B")
        return dataclasses.replace(self, **{n: getattr(self, n).to(device) for n in names})


class HeadStudent(nn.Module):
    """A head as the training loop takes it, which asks how many layers lie below."""

    def __init__(self, head: CtcHead, num_layers: int) -> None:
        super().__init__()
        self.head = head
        self.num_layers = num_layers


class StateBatches:
    """Endless batches of similar lengths, each by seed and step alone.

    Raises:
        RunConfigError: no utterance has a text.
    """

    def __init__(
        self,
        spoken: Sequence[Spoken],
        tokenizer: Tokenizer,
        batch_s: float,
        frame_s: float,
        seed: int,
    ) -> None:
        self._kept = [(item, tokenizer.encode(item.text)) for item in spoken if item.text]
        if not self._kept:
            raise RunConfigError("expected utterances with a text to train on, got none")
        self._most_frames = batch_s / frame_s
        self._frame_s = frame_s
        self._seed = seed

    def steps(self, start: int = 0) -> Iterator[HeadBatch]:
        """Give the batches from a step on; those before are not read."""
        step = epoch = 0
        while True:
            for group in self._epoch(epoch):
                if step >= start:
                    yield self._batch(group)
                step += 1
            epoch += 1

    def _epoch(self, epoch: int) -> list[list[tuple[Spoken, list[int]]]]:
        draw = np.random.default_rng((self._seed, epoch))
        shuffled = [self._kept[place] for place in draw.permutation(len(self._kept))]
        groups: list[list[tuple[Spoken, list[int]]]] = []
        for start in range(0, len(shuffled), POOL):
            pool = sorted(shuffled[start : start + POOL], key=_frames)
            group: list[tuple[Spoken, list[int]]] = []
            for item, tokens in pool:
                if group and (len(group) + 1) * len(item.states_TD) > self._most_frames:
                    groups.append(group)
                    group = []
                group.append((item, tokens))
            groups.append(group)
        return [groups[place] for place in draw.permutation(len(groups))]

    def _batch(self, group: Sequence[tuple[Spoken, list[int]]]) -> HeadBatch:
        frames = [len(item.states_TD) for item, _ in group]
        targets = [torch.tensor(tokens, dtype=torch.long) for _, tokens in group]
        return HeadBatch(
            pad_sequence([item.states_TD.float() for item, _ in group], batch_first=True),
            torch.tensor(frames),
            pad_sequence(targets, batch_first=True),
            torch.tensor([len(token_U) for token_U in targets]),
            sum(frames) * self._frame_s,
        )


@dataclass(frozen=True, slots=True)
class HeadObjective:
    """CTC on states that are given; depth was drawn when they were computed."""

    def __call__(
        self,
        student: HeadStudent,
        batch: HeadBatch,
        depth: Depth,
        config: LossConfig,
        draw: torch.Generator,
    ) -> tuple[Tensor, dict[str, float]]:
        """Give nats a token."""
        del depth, draw
        with autocast():
            log_probs_BTV = student.head(batch.states_BTD)
        loss = ctc_loss(
            log_probs_BTV,
            batch.num_frames_B,
            batch.token_BU,
            batch.num_tokens_B,
            blank=BLANK,
            per=config.task_per,
        )
        return loss, {"task": float(loss.detach())}


def _frames(pair: tuple[Spoken, list[int]]) -> int:
    return len(pair[0].states_TD)
