"""A depth plan: the stride at which each encoder layer runs, and plans that change along an utterance."""

from collections.abc import Sequence
from dataclasses import dataclass

from model_store.errors import PlanInvalid

STRIDES = (1, 2, 4, 8)
"""Strides a running layer may have: one run for that many frames."""

MAX_STRIDE = STRIDES[-1]
"""Frames; a stride may change only at multiples of this, so that no group of frames straddles a change."""

TOLERANCE = 1e-9
"""Effective layers; forgives the rounding of (1 - drop) * layers."""


@dataclass(frozen=True, slots=True, order=True)
class DepthPlan:
    """A stride per layer: 1 runs for every frame, r once for r frames, 0 is skipped.

    Raises:
        PlanInvalid: a stride is not on offer, or every layer is skipped.

    Example:
        >>> DepthPlan.parse("1,2,2,1").effective_layers
        3.0
    """

    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        wrong = [stride for stride in self.strides if stride != 0 and stride not in STRIDES]
        if wrong:
            raise PlanInvalid(f"expected strides out of 0, 1, 2, 4, 8, got {wrong[0]!r}")
        if not any(self.strides):
            raise PlanInvalid(f"expected a plan that runs at least one layer, got {str(self)!r}")

    @classmethod
    def parse(cls, text: str) -> "DepthPlan":
        """Read a plan as headers and cards write it: strides between commas."""
        try:
            return cls(tuple(int(part) for part in text.split(",")))
        except ValueError as error:
            if isinstance(error, PlanInvalid):
                raise
            raise PlanInvalid(f"expected strides between commas, got {text!r}") from error

    @classmethod
    def full(cls, num_layers: int) -> "DepthPlan":
        """Every layer at every frame."""
        return cls((1,) * num_layers)

    @classmethod
    def keeping(cls, layers: Sequence[int], num_layers: int) -> "DepthPlan":
        """Run the given layers (indices from 0) at every frame, skip the rest."""
        return cls(tuple(int(index in layers) for index in range(num_layers)))

    def __str__(self) -> str:
        return ",".join(map(str, self.strides))

    @property
    def num_layers(self) -> int:
        """Layers of the model, skipped ones included."""
        return len(self.strides)

    @property
    def effective_layers(self) -> float:
        """Sum of 1 / stride over the layers that run."""
        return sum(1 / stride for stride in self.strides if stride)

    @property
    def drop(self) -> float:
        """Share of the depth that is given up, in [0, 1)."""
        return 1 - self.effective_layers / self.num_layers

    @property
    def skips(self) -> bool:
        """Whether a layer is skipped, so that the plan has to hold for its whole utterance."""
        return 0 in self.strides


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames [start_frame, end_frame) that one layer takes at one stride."""

    start_frame: int
    end_frame: int
    stride: int

    @property
    def num_rows(self) -> int:
        """Rows that the layer computes: one for each group of frames, whole or not; 0 when skipped."""
        frames = self.end_frame - self.start_frame
        return -(-frames // self.stride) if self.stride else 0


@dataclass(frozen=True, slots=True)
class DepthSchedule:
    """Plans along an utterance: each holds from its first frame until the next one's.

    Args:
        parts: pairs of first frame and plan; the first starts at 0, starts rise and are multiples
            of `MAX_STRIDE` frames.

    Raises:
        PlanInvalid: the starts are not as above, the plans' layers differ in number, or a layer is
            skipped in one plan and not in another (a skipped layer has no cache to come back to).
    """

    parts: tuple[tuple[int, DepthPlan], ...]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.parts]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise PlanInvalid(f"expected first frames rising from 0, got {starts}")
        if any(start % MAX_STRIDE for start in starts):
            raise PlanInvalid(f"expected first frames in multiples of {MAX_STRIDE}, got {starts}")
        if len({tuple(bool(s) for s in plan.strides) for _, plan in self.parts}) != 1:
            raise PlanInvalid("expected plans that skip the same layers, got plans that differ")

    @classmethod
    def constant(cls, plan: DepthPlan) -> "DepthSchedule":
        """One plan for the whole utterance."""
        return cls(((0, plan),))

    @property
    def num_layers(self) -> int:
        """Layers of the model."""
        return self.parts[0][1].num_layers

    def plan_at(self, frame: int) -> DepthPlan:
        """The plan in force at a frame."""
        return [plan for start, plan in self.parts if start <= frame][-1]

    def segments(self, layer: int, num_frames: int) -> tuple[Segment, ...]:
        """The stretches that one layer takes at one stride each; equal neighbours are joined."""
        starts = [start for start, _ in self.parts if start < num_frames]
        ends = [*starts[1:], num_frames]
        joined: list[Segment] = []
        for start, end, (_, plan) in zip(starts, ends, self.parts, strict=False):
            stride = plan.strides[layer]
            if joined and joined[-1].stride == stride:
                joined[-1] = Segment(joined[-1].start_frame, end, stride)
            else:
                joined.append(Segment(start, end, stride))
        return tuple(joined)

    def num_rows(self, layer: int, num_frames: int) -> int:
        """Rows that one layer computes, of all its segments."""
        return sum(part.num_rows for part in self.segments(layer, num_frames))
