"""How long the engine takes, from a file that `benchmarks.simulator.profile` measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.errors import CorpusInvalid
from service.engine.step_times import SPEECH_SCALE

Statistic = Literal["median", "low"]


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure at some places; between them it is linear, beyond them it stays as it is."""

    places: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, points: Mapping[float, float]) -> "Curve":
        """Make one of points in any order."""
        ordered = sorted(points.items())
        return cls(tuple(at for at, _ in ordered), tuple(value for _, value in ordered))

    def at(self, place: float) -> float:
        """Read it."""
        return float(np.interp(place, self.places, self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTimes:
    """Seconds of the engine's parts.

    Args:
        chunk_s: of one stream's chunk, by layers; each by the number of streams in the step.
        update_s, call_s, row_s: of a step that writes; of a decoder call; of a transcript in one.
        calls: decoder calls that updates took, by chunks gained; key 0 those that end an utterance.
        second_pass_s: (base, for each second of the utterance), by layers.
        gate_frame_s: of a frame of the gate.
        background: share of the core that one stream takes beside the engine: sockets, messages,
            sessions. The engine is slower by what all of them take.
        speech_scale: what `ModelInfo` says of speech and the profile.
    """

    chunk_s: Mapping[float, Curve]
    update_s: float
    call_s: float
    row_s: float
    calls: Mapping[int, tuple[int, ...]]
    second_pass_s: Mapping[float, tuple[float, float]]
    gate_frame_s: float
    background: float = 0.0
    speech_scale: float = SPEECH_SCALE

    def encode_s(self, layers: Sequence[float], chunks: Sequence[float]) -> float:
        """Time of the chunks of one step, those of several depths too.

        Args:
            layers: of each stream's plan.
            chunks: that each stream has in it.
        """
        count = sum(1 for one in chunks if one)
        return sum(
            many * self._chunk_s(depth, count)
            for depth, many in zip(layers, chunks, strict=True)
            if many
        )

    def write_s(self, calls: Sequence[int]) -> float:
        """Time of an update in which transcripts take so many calls each, side by side."""
        if not calls:
            return 0.0
        return self.update_s + self.call_s * max(calls) + self.row_s * sum(calls)

    def second_s(self, layers: float, audio_s: float) -> float:
        """Time of hearing an utterance again."""
        base_s = Curve.of({at: pair[0] for at, pair in self.second_pass_s.items()})
        slope = Curve.of({at: pair[1] for at, pair in self.second_pass_s.items()})
        return base_s.at(layers) + slope.at(layers) * audio_s

    def calls_of(self, gained: int) -> tuple[int, ...]:
        """Calls that updates took after so many chunks, or the most that was measured."""
        most = max(self.calls)
        return self.calls[min(max(gained, 1), most)]

    def _chunk_s(self, layers: float, count: int) -> float:
        depths = sorted(self.chunk_s)
        return float(np.interp(layers, depths, [self.chunk_s[at].at(count) for at in depths]))


def read_service_times(
    path: Path, *, statistic: Statistic = "median", background: float = 0.0
) -> ServiceTimes:
    """Read a result file.

    Args:
        path: of the file.
        statistic: of the repeats; on a machine that is not quiet the lowest is nearer to the truth.
        background: see `ServiceTimes`.

    Raises:
        CorpusInvalid: it is a result of something else.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("benchmark") != "service-times":
        raise CorpusInvalid(
            f"expected a result of 'service-times' in '{path}', got {content.get('benchmark')!r}"
        )
    rows: list[dict[str, Any]] = content["results"]
    decode = next(row for row in rows if row["what"] == "decode")
    points: dict[float, dict[float, float]] = {}
    for row in (row for row in rows if row["what"] == "encode"):
        points.setdefault(row["layers"], {})[row["streams"]] = row["chunk_s"][statistic]
    return ServiceTimes(
        chunk_s={layers: Curve.of(found) for layers, found in points.items()},
        update_s=decode["update_s"],
        call_s=decode["call_s"],
        row_s=decode["row_s"],
        calls={
            0 if row["gained"] == "ends" else int(row["gained"]): _spread_out(row["counts"])
            for row in rows
            if row["what"] == "calls"
        },
        second_pass_s={
            row["layers"]: (row["base_s"], row["audio_s"])
            for row in rows
            if row["what"] == "second_pass"
        },
        gate_frame_s=next(row for row in rows if row["what"] == "gate")["frame_s"][statistic],
        background=background,
    )


def _spread_out(counts: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(int(calls) for calls, count in counts.items() for _ in range(count))
