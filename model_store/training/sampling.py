"""Which depth a training step runs at: plans, chunk masks, and switches along the utterance."""

import torch

from model_store.depth import MAX_STRIDE, DepthPlan, DepthSchedule
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
        if plan.skips or self._uniform() >= self._config.switch:
            return DepthSchedule.constant(plan), chunk_frames
        return self._switching(plan, progress, num_frames, chunk_frames), chunk_frames

    def _switching(
        self, plan: DepthPlan, progress: float, num_frames: int, chunk_frames: int
    ) -> DepthSchedule:
        strided = tuple(source for source in self._config.plans if _strides_only(source))
        boundaries = list(range(chunk_frames, num_frames, chunk_frames))
        switches = min(len(boundaries), 1 + self._below(self._config.most_switches))
        order = torch.randperm(len(boundaries), generator=self._generator)[:switches]
        starts = sorted(boundaries[index] for index in order.tolist())
        assert all(start % MAX_STRIDE == 0 for start in starts), "chunks hold whole groups"
        later = [(start, self._plan(strided, progress)) for start in starts]
        return DepthSchedule(((0, plan), *later))

    def _plan(self, sources: tuple[PlanSource, ...], progress: float) -> DepthPlan:
        weights = torch.tensor(
            [
                s.weight
                + progress * ((s.weight if s.weight_end is None else s.weight_end) - s.weight)
                for s in sources
            ]
        )
        index = torch.multinomial(weights, 1, generator=self._generator).item()
        source = sources[int(index)]
        if source.kind == "fixed":
            return DepthPlan.parse(source.plan)
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


def _strides_only(source: PlanSource) -> bool:
    if source.kind == "fixed":
        return not DepthPlan.parse(source.plan).skips
    return source.kind == "strides"
