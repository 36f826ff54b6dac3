"""Batches of what the student hears, and what the reference made of it.

Dimensions: B = utterances, S = samples, T = encoder frames, U = predicted tokens, K = likeliest
tokens kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model_store.audio import SAMPLE_RATE_HZ, read_audio
from model_store.backbones import SpeechModel
from model_store.errors import RunConfigError
from model_store.training.augment import Augmenter
from model_store.training.config import DataConfig
from model_store.training.losses import Targets
from model_store.training.manifest import read_manifest, refuse_held_out
from model_store.training.reference import Reference, load_references

POOL_BATCHES = 24
SHORTEST_CUT_S = 0.8


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's audio and targets; inputs are the prompt and the text without its last token."""

    samples_BS: Tensor
    num_samples_B: Tensor
    input_BU: Tensor
    targets: Targets

    @property
    def seconds(self) -> float:
        """Audio in the batch, padding left out."""
        return float(self.num_samples_B.sum()) / SAMPLE_RATE_HZ

    @property
    def num_frames(self) -> int:
        """Encoder frames of the longest utterance."""
        return self.targets.states_BTD.shape[1]

    def to(self, device: torch.device) -> "Batch":
        """Bring a batch to a device."""
        if device.type == "cpu":
            return self
        targets = type(self.targets)(
            *(getattr(self.targets, name).to(device) for name in self.targets.__slots__)
        )
        return Batch(
            self.samples_BS.to(device),
            self.num_samples_B.to(device),
            self.input_BU.to(device),
            targets,
        )


@dataclass(frozen=True, slots=True)
class _Example:
    samples_S: Tensor
    reference: Reference
    frames: int
    scored_U: Tensor
    ends: bool


class Batches:
    """Endless batches of similar lengths; `skip` goes to any step without computing it.

    Args:
        references: of every corpus, by name.
        noise_S: recordings of noise, joined.
        student: tells the tokens every transcript starts from, and the frames of so many samples.

    Raises:
        RunConfigError: there is nothing to hear, or the config weighs a corpus that is not there.
    """

    def __init__(
        self,
        references: dict[str, list[Reference]],
        noise_S: Tensor,
        student: SpeechModel,
        config: DataConfig,
        seed: int,
    ) -> None:
        unknown = sorted(set(config.weights) - set(references))
        if unknown:
            raise RunConfigError(
                f"expected weights of corpora out of {sorted(references)}, got {unknown[0]!r}"
            )
        if not any(corpus and config.weights.get(n, 1.0) > 0 for n, corpus in references.items()):
            raise RunConfigError("expected references to train on, got none")
        self._references = references
        self._augment = Augmenter(noise_S, config.augment)
        self._student = student
        self._config = config
        self._seed = seed

    def steps(self, start: int = 0) -> Iterator[Batch]:
        """Give the batches from a step on; each depends on seed and step alone."""
        step = 0
        epoch = 0
        while True:
            for group in self._epoch(epoch):
                if step >= start:
                    yield self._batch(
                        group, torch.Generator().manual_seed(self._seed * 10**7 + step)
                    )
                step += 1
            epoch += 1

    def _epoch(self, epoch: int) -> list[list[Reference]]:
        draw = np.random.default_rng((self._seed, epoch))
        chosen: list[Reference] = []
        for name, corpus in self._references.items():
            weight = self._config.weights.get(name, 1.0)
            whole, part = int(weight), weight - int(weight)
            chosen += corpus * whole
            chosen += [item for item in corpus if draw.random() < part]
        order = draw.permutation(len(chosen))
        shuffled = [chosen[index] for index in order]
        pool = POOL_BATCHES * 6
        groups: list[list[Reference]] = []
        for start in range(0, len(shuffled), pool):
            part_of = sorted(shuffled[start : start + pool], key=attrgetter("num_samples"))
            groups += self._grouped(part_of)
        return [groups[index] for index in draw.permutation(len(groups))]

    def _grouped(self, items: Sequence[Reference]) -> list[list[Reference]]:
        most = self._config.batch_s * SAMPLE_RATE_HZ
        groups: list[list[Reference]] = [[]]
        for item in items:
            if groups[-1] and (len(groups[-1]) + 1) * item.num_samples > most:
                groups.append([])
            groups[-1].append(item)
        return groups

    def _batch(self, group: Sequence[Reference], draw: torch.Generator) -> Batch:
        others = [group[place - 1] if len(group) > 1 else None for place in range(len(group))]
        examples = [
            self._example(item, other, draw) for item, other in zip(group, others, strict=True)
        ]
        samples_BS = pad_sequence([e.samples_S for e in examples], batch_first=True)
        token_BU = _pad([e.reference.token_U.long() for e in examples])
        scored_BU = _pad([e.scored_U for e in examples])
        ends_B1 = torch.tensor([[e.ends] for e in examples])
        last_B = torch.tensor([len(e.reference.token_U) - 1 for e in examples])
        end_BU = (torch.arange(token_BU.shape[1]) == last_B[:, None]) & ends_B1
        frames_B = torch.tensor([e.frames for e in examples])
        states_BTD = _pad([e.reference.states_TD[: e.frames] for e in examples])
        targets = Targets(
            states_BTD=states_BTD,
            frame_BT=torch.arange(states_BTD.shape[1]) < frames_B[:, None],
            token_BU=token_BU,
            scored_BU=scored_BU,
            end_BU=end_BU,
            top_token_BUK=_pad([e.reference.top_token_UK.long() for e in examples]),
            top_logp_BUK=_pad([e.reference.top_logp_UK for e in examples]),
        )
        prompt_BU = torch.tensor(self._student.prompt).expand(len(examples), -1)
        return Batch(
            samples_BS=samples_BS,
            num_samples_B=torch.tensor([len(e.samples_S) for e in examples]),
            input_BU=torch.cat([prompt_BU, token_BU[:, :-1]], dim=1),
            targets=targets,
        )

    def _example(
        self, reference: Reference, other: Reference | None, draw: torch.Generator
    ) -> _Example:
        config = self._config
        samples_S = reference.samples_S.float() / 32768
        total_s = len(samples_S) / SAMPLE_RATE_HZ
        ends = True
        scored_U = torch.ones(len(reference.token_U), dtype=torch.bool)
        scored_U[-1] = False
        if _uniform(draw) < config.cut and total_s > 2 * SHORTEST_CUT_S:
            cut_s = _uniform(draw, SHORTEST_CUT_S, total_s - SHORTEST_CUT_S / 2)
            samples_S = samples_S[: int(cut_s * SAMPLE_RATE_HZ)]
            scored_U &= reference.end_s_U <= cut_s - config.cut_margin_s
            ends = False
        babble_S = torch.zeros(0) if other is None else other.samples_S.float() / 32768
        samples_S = self._augment(samples_S, babble_S, draw)
        frames = int(self._student.num_frames(torch.tensor(len(samples_S))))
        return _Example(samples_S, reference, frames, scored_U, ends)


def load_corpora(folder: Path) -> dict[str, list[Reference]]:
    """Read every corpus that `recipes.prepare` wrote into a folder.

    Raises:
        HeldOutRefused: one of them holds an utterance that is kept for evaluation.
    """
    corpora = {path.stem: load_references(path) for path in sorted(folder.glob("*.json"))}
    for name, corpus in corpora.items():
        refuse_held_out((reference.id for reference in corpus), name)
    return corpora


def load_noise(manifest: Path) -> Tensor:
    """Join the recordings of a manifest of noise."""
    parts = [read_audio(item.path) for item in read_manifest(manifest)]
    return torch.from_numpy(np.concatenate(parts))


def _pad(rows: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(rows), batch_first=True)


def _uniform(draw: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    value = float(torch.rand(1, generator=draw).item())
    return low + (high - low) * value
