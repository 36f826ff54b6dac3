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

from dataclasses import dataclass
from functools import cached_property, lru_cache

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


@dataclass(frozen=True)
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

    @cached_property
    def stride(self) -> int:
        """Of the frames that came last; 1 where the layer is skipped."""
        return max([1, *(part.stride for part in (*self.heard, *self.answered)[-1:])])

    @cached_property
    def skipped(self) -> bool:
        """Whether the layer runs over nothing."""
        return not any(part.stride for part in (*self.heard, *self.answered))

    @cached_property
    def num_answered(self) -> int:
        """Frames that are given on."""
        return sum(part.end_frame - part.start_frame for part in self.answered)

    @cached_property
    def heard_rows(self) -> int:
        """Rows of what is heard."""
        return sum(part.num_rows for part in self.heard)

    @cached_property
    def answered_rows(self) -> int:
        """Rows of what is answered."""
        return sum(part.num_rows for part in self.answered)


@dataclass(slots=True)
class Progress:
    """How far each layer of one utterance has come.

    Args:
        look_ahead_frames: see `frames_behind`.
        edge: frames that the front end gave.
        plan: of the chunk before; None at first.
        ended: nothing waits any longer.
    """

    look_ahead_frames: int
    edge: int = 0
    plan: DepthPlan | None = None
    ended: bool = False

    @classmethod
    def at(cls, plan: DepthPlan, edge: int, look_ahead_frames: int) -> "Progress":
        """Give where an utterance is after whole chunks at one plan, `edge` frames in all."""
        return cls(look_ahead_frames, edge, plan if edge else None)

    @property
    def heard(self) -> list[int]:
        """Frames that each layer has heard; none before the first chunk."""
        return [] if self.plan is None else _reached(self._waiting, self.edge, self.plan)[0]

    @property
    def answered(self) -> list[int]:
        """Frames that each layer has given on; none before the first chunk."""
        return [] if self.plan is None else _reached(self._waiting, self.edge, self.plan)[1]

    @property
    def num_final_frames(self) -> int:
        """Frames that the whole encoder has given on."""
        return max(0, self.edge - self._waiting)

    @property
    def waits(self) -> bool:
        """Whether frames wait for what comes next."""
        return self.num_final_frames < self.edge

    @property
    def _waiting(self) -> int:
        return 0 if self.ended else self.look_ahead_frames

    def turns(self, plan: DepthPlan, num_frames: int, *, ended: bool) -> tuple[LayerTurn, ...]:
        """Give what `advance` would, and stay."""
        return _turns(self._waiting, self.edge, self.plan or plan, plan, num_frames, ended=ended)

    def advance(self, plan: DepthPlan, num_frames: int, *, ended: bool) -> tuple[LayerTurn, ...]:
        """Take a chunk in; give each layer's turn.

        Args:
            plan: of the chunk.
            num_frames: of the chunk, a whole one unless the utterance has ended.
            ended: nothing follows, so that nothing waits any longer.
        """
        turns = self.turns(plan, num_frames, ended=ended)
        self.edge, self.plan, self.ended = self.edge + num_frames, plan, ended
        return turns

    def finish(self) -> tuple[LayerTurn, ...]:
        """End the utterance; give each layer's turn over what waits."""
        assert self.plan is not None, "expected an utterance that had a chunk"
        return self.advance(self.plan, 0, ended=True)


def _reached(waiting: int, edge: int, plan: DepthPlan) -> tuple[list[int], list[int]]:
    """Give how far layers have heard, and answered, once a chunk at a plan has ended at an edge."""
    if not edge:
        return [0] * plan.num_layers, [0] * plan.num_layers
    behind = frames_behind(plan, waiting)
    heard = [
        edge - frames if not waiting or not stride else (edge - frames) // stride * stride
        for frames, stride in zip(behind[:-1], plan.strides, strict=True)
    ]
    answered = [edge - frames if waiting else edge for frames in behind[1:]]
    return heard, answered


@lru_cache(maxsize=4096)
def _turns(
    waiting: int, edge: int, before: DepthPlan, plan: DepthPlan, num_frames: int, *, ended: bool
) -> tuple[LayerTurn, ...]:
    """Give the turns of all utterances that are here; kept, since streams ask the same again and again."""
    heard, answered = _reached(waiting, edge, before)
    new_edge = edge + num_frames
    heard_end, answered_end = _reached(0 if ended else waiting, new_edge, plan)
    turns: list[LayerTurn] = []
    for layer, strides in enumerate(zip(before.strides, plan.strides, strict=True)):
        spans = (heard[layer], heard_end[layer]), (answered[layer], answered_end[layer])
        parts = [_parts(start, end, edge, *strides) for start, end in spans]
        turns.append(LayerTurn(answered[layer], *parts))
    return tuple(turns)


def _parts(start: int, end: int, edge: int, old: int, stride: int) -> tuple[Segment, ...]:
    """Divide a span where the chunk's plan begins; what is before it has the one before."""
    parts = (Segment(start, min(end, edge), old), Segment(max(start, edge), end, stride))
    return tuple(part for part in parts if part.end_frame > part.start_frame)
