"""One row for each file: what was said, how sure that is, at which depth, and what it took.

A long file is transcribed in parts, each every n-th step of it; the row has their segments in order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from service.engine.base import Segment
from service.errors import ServiceError
from service.fleet.archive_plan import FirstPass
from service.scheduling.files import Share
from service.scheduling.transcripts import Transcript

_TIME_DECIMALS = 3
_CONFIDENCE_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class RowWord:
    """A word with its times in the file, as `POST /transcribe` rounds them."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class RowSegment:
    """The words of one window."""

    start_s: float
    text: str
    words: tuple[RowWord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one actor made of a file, or of its share of it.

    Args:
        error_code: of what went wrong; empty where nothing did.
        fatal: it would go wrong with every file.
    """

    path: str
    part: int = 0
    of: int = 1
    segments: tuple[RowSegment, ...] = ()
    model: str = ""
    policy: str = ""
    plan: str = ""
    layers: float = 0.0
    layers_total: int = 0
    drop: float = 0.0
    flops: int = 0
    encoder_flops: int = 0
    full_flops: int = 0
    audio_s: float = 0.0
    error_code: str = ""
    error_message: str = ""
    fatal: bool = False

    @classmethod
    def of_transcript(cls, path: str, share: Share, transcript: Transcript) -> "Part":
        """Take over what a row has of a transcript."""
        plan, cost = transcript.plan, transcript.cost
        return cls(
            path=path,
            part=share.part,
            of=share.of,
            segments=tuple(map(_segment, transcript.segments)),
            model=transcript.model,
            policy=transcript.policy,
            plan=transcript.plan_text,
            layers=plan.effective_layers,
            layers_total=plan.layers_total,
            drop=plan.drop,
            flops=cost.flops,
            encoder_flops=cost.encoder_flops,
            full_flops=cost.full_flops,
            audio_s=transcript.audio_s,
        )

    @classmethod
    def of_error(
        cls, path: str, share: Share, error: ServiceError, *, fatal: bool = False
    ) -> "Part":
        """Say what went wrong."""
        return cls(
            path=path,
            part=share.part,
            of=share.of,
            error_code=error.code,
            error_message=str(error),
            fatal=fatal,
        )

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "Part":
        """Read what `asdict` wrote."""
        segments = [
            RowSegment(
                segment["start_s"],
                segment["text"],
                tuple(RowWord(**word) for word in segment["words"]),
            )
            for segment in content["segments"]
        ]
        values: dict[str, Any] = {**content, "segments": tuple(segments)}
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRow:
    """What is written of a file; every field is a column.

    Args:
        path: of the file.
        text: all words; empty for silence and for errors.
        words: with times and confidence.
        confidence: mean of the words'; None without words.
        model: that was used, as all that follows empty or 0 for errors.
        policy: how the budget became a plan.
        plan: stride of each layer.
        layers: effective ones.
        layers_total: of the model.
        drop: the effective one.
        flops: of the pass whose words these are.
        encoder_flops: of them, front end and layers.
        full_flops: what that pass would have been at full depth.
        spent_flops: of all passes over the file.
        audio_s: its length.
        error_code: stable, empty where nothing went wrong.
        error_message: for people.
    """

    path: str
    text: str = ""
    words: tuple[RowWord, ...] = ()
    confidence: float | None = None
    model: str = ""
    policy: str = ""
    plan: str = ""
    layers: float = 0.0
    layers_total: int = 0
    drop: float = 0.0
    flops: int = 0
    encoder_flops: int = 0
    full_flops: int = 0
    spent_flops: int = 0
    audio_s: float = 0.0
    error_code: str = ""
    error_message: str = ""

    def content(self) -> dict[str, Any]:
        """Give the columns as plain values."""
        return asdict(self)

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "ArchiveRow":
        """Read what `content` gave."""
        words = tuple(RowWord(**word) for word in content["words"])
        values: dict[str, Any] = {**content, "words": words}
        return cls(**values)

    def first_pass(self) -> FirstPass:
        """Give what a plan needs to know of it."""
        return FirstPass(
            self.path,
            self.confidence,
            self.flops,
            self.full_flops,
            self.layers,
            self.layers_total,
        )

    def deepened(self, deeper: "ArchiveRow") -> "ArchiveRow":
        """Give the row after a second pass: its words if it went well, and what both cost."""
        spent_flops = self.spent_flops + deeper.spent_flops
        return replace(self if deeper.error_code else deeper, spent_flops=spent_flops)


@dataclass(slots=True)
class PartJoiner:
    """Keeps parts until all of a file are there."""

    _waiting: dict[str, dict[int, Part]] = field(default_factory=dict[str, dict[int, Part]])

    def add(self, part: Part) -> ArchiveRow | None:
        """Take a part; gives the file's row with its last one. One that came before counts once."""
        parts = self._waiting.setdefault(part.path, {})
        parts[part.part] = part
        if len(parts) < part.of:
            return None
        del self._waiting[part.path]
        return join_parts([parts[index] for index in range(part.of)])


def join_parts(parts: Sequence[Part]) -> ArchiveRow:
    """Make a file's row of all its parts; one that failed fails the file."""
    failed = next((part for part in parts if part.error_code), None)
    spent_flops = sum(part.flops for part in parts)
    if failed is not None:
        return ArchiveRow(
            path=failed.path,
            spent_flops=spent_flops,
            error_code=failed.error_code,
            error_message=failed.error_message,
        )
    segments = sorted(
        (segment for part in parts for segment in part.segments), key=lambda one: one.start_s
    )
    words = tuple(word for segment in segments for word in segment.words)
    plans = dict.fromkeys(plan for part in parts for plan in part.plan.split(";"))
    first = parts[0]
    return ArchiveRow(
        path=first.path,
        text=" ".join(segment.text for segment in segments),
        words=words,
        confidence=_mean([word.confidence for word in words]),
        model=first.model,
        policy=first.policy,
        plan=";".join(plans),
        layers=first.layers,
        layers_total=first.layers_total,
        drop=first.drop,
        flops=spent_flops,
        encoder_flops=sum(part.encoder_flops for part in parts),
        full_flops=sum(part.full_flops for part in parts),
        spent_flops=spent_flops,
        audio_s=round(first.audio_s, _TIME_DECIMALS),
    )


def _segment(segment: Segment) -> RowSegment:
    words = tuple(
        RowWord(
            word.text,
            round(word.start_s, _TIME_DECIMALS),
            round(word.end_s, _TIME_DECIMALS),
            round(word.confidence, _CONFIDENCE_DECIMALS),
        )
        for word in segment.words
    )
    return RowSegment(segment.start_s, segment.text, words)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), _CONFIDENCE_DECIMALS) if values else None
