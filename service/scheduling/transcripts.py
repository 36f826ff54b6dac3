"""One file's transcript, gathered step by step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.engine.base import Cost, PlanInUse, Segment, StepResult, Window


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds a file spent where; decoding runs beside the engine, so the parts may exceed the total."""

    audio_decode_s: float = 0.0
    queue_s: float = 0.0
    encode_s: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """A transcribed file: its segments with speech, and what they cost.

    Args:
        plans: of its windows with speech, where the input picked them; else empty.
    """

    model: str
    plan: PlanInUse
    policy: str
    segments: tuple[Segment, ...]
    audio_s: float
    cost: Cost
    timing: Timing
    plans: tuple[PlanInUse, ...] = ()

    @property
    def plan_text(self) -> str:
        """The plan that ran; where the input picked one for each window, each once, as first used."""
        used = dict.fromkeys(plan.strides_text for plan in self.plans or (self.plan,))
        return ";".join(used)

    @property
    def text(self) -> str:
        """All words, one space between segments; empty for silence."""
        return " ".join(segment.text for segment in self.segments)


@dataclass(slots=True)
class TranscriptBuilder:
    """Takes the results of steps in order."""

    model: str
    plan: PlanInUse
    policy: str
    audio_s: float = 0.0
    cost: Cost = field(default_factory=Cost)
    queue_s: float = 0.0
    audio_decode_s: float = 0.0
    _segments: list[Segment] = field(default_factory=list[Segment])
    _plans: list[PlanInUse] = field(default_factory=list[PlanInUse])

    def add(self, windows: Sequence[Window], result: StepResult, wait_s: float) -> None:
        """Append a step; segments without words are left out."""
        self._segments.extend(segment for segment in result.segments if segment.text.strip())
        self.audio_s = windows[-1].end_s
        self._plans.extend(result.plans)
        self.cost += result.cost
        self.queue_s += wait_s

    def pass_over(self, windows: Sequence[Window]) -> None:
        """Leave out a step that somebody else runs."""
        self.audio_s = windows[-1].end_s

    def build(self, *, total_s: float) -> Transcript:
        """Close the transcript."""
        timing = Timing(
            self.audio_decode_s, self.queue_s, self.cost.encode_s, self.cost.decode_s, total_s
        )
        segments = tuple(self._segments)
        return Transcript(
            self.model,
            self.plan,
            self.policy,
            segments,
            self.audio_s,
            self.cost,
            timing,
            tuple(self._plans),
        )
