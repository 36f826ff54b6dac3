"""Look-ahead without frames encoded twice: the deeper a layer, the further it stays behind the edge.

A layer that works a few frames behind its inputs' edge hears that much of what comes next:

    audio so far        ........................|      edge of the chunk
    layer 1 answers     .......................|       1 frame behind, hears all that is there
    layer 2             ......................|        2 behind, hears what layer 1 answered
    ...
    layer 8             ................|              8 behind: the look-ahead of the whole encoder

What waits is run with the next chunk, and nothing twice. With a look-ahead of 0 every layer answers
for all of its chunk, so that a chunk's last frames hear nothing of what follows them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from model_store.depth.plan import MAX_STRIDE, DepthPlan, DepthSchedule, Segment
from model_store.errors import PlanInvalid


def frames_behind(plan: DepthPlan, look_ahead_frames: int) -> tuple[int, ...]:
    """Give how far behind a chunk's edge each layer's inputs end, and last the encoder's output.

    Whole groups of every layer's stride, rising from 0 to `look_ahead_frames`; a skipped layer waits
    like one that runs, so that all plans of an utterance give equally many frames.
    """
    behind = [0]
    for done, stride in enumerate(plan.strides, start=1):
        frames, group = -(-look_ahead_frames * done // plan.num_layers), max(stride, 1)
        behind.append(max(behind[-1], -(-frames // group) * group))
    return tuple(behind)


def check_look_ahead(
    look_ahead_frames: int, chunk_frames: int, schedule: DepthSchedule | None = None
) -> None:
    """Refuse a look-ahead that chunks of this size, or plans that change, cannot have.

    Raises:
        PlanInvalid: it is no multiple of the largest stride, or longer than a chunk, or a plan of
            the schedule begins inside a chunk.
    """
    inside = [start for start, _ in schedule.parts if start % chunk_frames] if schedule else []
    if inside:
        raise PlanInvalid(
            f"expected plans that change between chunks of {chunk_frames} frames, got {inside}"
        )
    if look_ahead_frames % MAX_STRIDE or not 0 <= look_ahead_frames <= chunk_frames:
        raise PlanInvalid(
            f"expected a look-ahead in multiples of {MAX_STRIDE} up to a chunk of {chunk_frames}, "
            f"got {look_ahead_frames}"
        )


@dataclass(frozen=True, slots=True)
class LayerTurn:
    """What one layer of one utterance does in a step, in frames from the utterance's start.

    Args:
        first_frame: that waits to be answered.
        heard: whose keys and values are made.
        answered: which are given on; heard in this step or before.
    """

    first_frame: int
    heard: tuple[Segment, ...]
    answered: tuple[Segment, ...]

    @property
    def stride(self) -> int:
        """Of the frames that came last; 1 where the layer is skipped."""
        return max([1, *(part.stride for part in (*self.heard, *self.answered)[-1:])])

    @property
    def skipped(self) -> bool:
        """Whether the layer runs over nothing."""
        return not any(part.stride for part in (*self.heard, *self.answered))

    @property
    def num_answered(self) -> int:
        """Frames that are given on."""
        return sum(part.end_frame - part.start_frame for part in self.answered)


@dataclass(slots=True)
class Progress:
    """How far each layer of one utterance has come.

    Args:
        look_ahead_frames: see `frames_behind`.
        edge: frames that the front end gave.
        plan: of the chunk before; None at first.
        heard, answered: by layer, frames.
    """

    look_ahead_frames: int
    edge: int = 0
    plan: DepthPlan | None = None
    heard: list[int] = field(default_factory=list[int])
    answered: list[int] = field(default_factory=list[int])

    @classmethod
    def at(cls, plan: DepthPlan, edge: int, look_ahead_frames: int) -> "Progress":
        """Give where an utterance is after whole chunks at one plan, `edge` frames in all."""
        progress = cls(look_ahead_frames)
        if edge:
            progress.advance(plan, edge, ended=False)
        return progress

    @property
    def num_final_frames(self) -> int:
        """Frames that the whole encoder has given on."""
        return self.answered[-1] if self.answered else 0

    @property
    def waits(self) -> bool:
        """Whether frames wait for what comes next."""
        return self.num_final_frames < self.edge

    def turns(self, plan: DepthPlan, num_frames: int, *, ended: bool) -> list[LayerTurn]:
        """Give what `advance` would, and stay."""
        lists = {"heard": [*self.heard], "answered": [*self.answered]}
        return replace(self, **lists).advance(plan, num_frames, ended=ended)

    def advance(self, plan: DepthPlan, num_frames: int, *, ended: bool) -> list[LayerTurn]:
        """Take a chunk in; give each layer's turn.

        Args:
            plan: of the chunk.
            num_frames: of the chunk, a whole one unless the utterance has ended.
            ended: nothing follows, so that nothing waits any longer.
        """
        before, edge = self.plan or plan, self.edge + num_frames
        heard = self.heard or [0] * plan.num_layers
        answered = self.answered or [0] * plan.num_layers
        look_ahead = 0 if ended else self.look_ahead_frames
        behind = frames_behind(plan, look_ahead) if look_ahead else (0,) * (plan.num_layers + 1)
        turns: list[LayerTurn] = []
        for layer, (old, stride) in enumerate(zip(before.strides, plan.strides, strict=True)):
            heard_end, answered_end = edge - behind[layer], edge - behind[layer + 1]
            if not ended and stride:
                heard_end -= heard_end % stride
            spans = (heard[layer], heard_end), (answered[layer], answered_end)
            parts = [self._parts(span, old, stride) for span in spans]
            turns.append(LayerTurn(answered[layer], *parts))
            heard[layer], answered[layer] = heard_end, answered_end
        self.edge, self.plan, self.heard, self.answered = edge, plan, heard, answered
        return turns

    def finish(self) -> list[LayerTurn]:
        """End the utterance; give each layer's turn over what waits."""
        assert self.plan is not None, "expected an utterance that had a chunk"
        return self.advance(self.plan, 0, ended=True)

    def _parts(self, span: tuple[int, int], old: int, stride: int) -> tuple[Segment, ...]:
        """Divide a span where the chunk's plan begins; what is before it has the one before."""
        start, end = span
        parts = (
            Segment(start, min(end, self.edge), old),
            Segment(max(start, self.edge), end, stride),
        )
        return tuple(part for part in parts if part.end_frame > part.start_frame)


def num_rows(parts: Iterable[Segment]) -> int:
    """Rows of segments, skipped ones left out."""
    return sum(-(-(p.end_frame - p.start_frame) // p.stride) for p in parts if p.stride)
