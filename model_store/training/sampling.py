"""Which depth a training step runs at: plans, chunk masks, and switches along the utterance."""

from collections.abc import Sequence

import torch

from model_store.depth import DepthPlan, DepthSchedule
from model_store.training.config import PlanSource, SamplingConfig


class DepthSampler:
    """Draws a schedule and a chunk mask for each step.

    Args:
        config: shares and sources.
        num_layers: of the student's encoder.
        generator: makes two runs with one seed equal.
    """

    def __init__(self, config: SamplingConfig, num_layers: int, generator: torch.Generator) -> None:
        self._config = config
        self._num_layers = num_layers
        self._generator = generator

    def draw(self, progress: float, num_frames: int) -> tuple[DepthSchedule, int | None]:
        """Draw what one batch runs at.

        Args:
            progress: share of the run that is done, in [0, 1].
            num_frames: of the longest utterance in the batch.

        Returns:
            the schedule, and the chunk mask in frames or None for full context.
        """
        plan = self._plan(self._config.plans, progress)
        if self._uniform() < self._config.full_context:
            return DepthSchedule.constant(plan), None
        chunk_frames = self._pick(self._config.chunk_frames)
        strided = tuple(s for s in self._config.plans if _strides_only(s) and _share(s, progress))
        if plan.skips or not strided or self._uniform() >= self._config.switch:
            return DepthSchedule.constant(plan), chunk_frames
        boundaries = range(chunk_frames, num_frames, chunk_frames)
        later = [(start, self._plan(strided, progress)) for start in self._some(boundaries)]
        return DepthSchedule(((0, plan), *later)), chunk_frames

    def _some(self, boundaries: Sequence[int]) -> list[int]:
        switches = min(len(boundaries), 1 + self._below(self._config.most_switches))
        order = torch.randperm(len(boundaries), generator=self._generator)[:switches]
        return sorted(boundaries[index] for index in order.tolist())

    def _plan(self, sources: tuple[PlanSource, ...], progress: float) -> DepthPlan:
        weights = torch.tensor([_share(source, progress) for source in sources])
        index = torch.multinomial(weights, 1, generator=self._generator).item()
        source = sources[int(index)]
        if source.kind == "fixed":
            return DepthPlan.parse(source.plan)
        if source.kind == "full":
            return DepthPlan.full(self._num_layers)
        if source.kind == "strides":
            return DepthPlan(tuple(self._pick(source.strides) for _ in range(self._num_layers)))
        if source.kind == "skip":
            order = torch.randperm(self._num_layers, generator=self._generator).tolist()
            return DepthPlan.keeping(order[: self._pick(source.kept)], self._num_layers)
        return self._bernoulli(source.keep)

    def _bernoulli(self, keep: float) -> DepthPlan:
        while True:
            draws = torch.rand(self._num_layers, generator=self._generator) < keep
            if draws.any():
                return DepthPlan(tuple(int(kept) for kept in draws.tolist()))

    def _pick(self, options: tuple[int, ...]) -> int:
        return options[self._below(len(options))]

    def _below(self, bound: int) -> int:
        return int(torch.randint(bound, (1,), generator=self._generator).item())

    def _uniform(self) -> float:
        return float(torch.rand(1, generator=self._generator).item())


def _share(source: PlanSource, progress: float) -> float:
    end = source.weight if source.weight_end is None else source.weight_end
    return source.weight + progress * (end - source.weight)


def _strides_only(source: PlanSource) -> bool:
    if source.kind == "fixed":
        return not DepthPlan.parse(source.plan).skips
    return source.kind in {"strides", "full"}
