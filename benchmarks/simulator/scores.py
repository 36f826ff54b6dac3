"""What a simulated run came to: promises kept, words paid, depth given up, refusals, changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.simulator.model_card import ModelCard
from service.engine.base import Cost, ModelInfo, PlanInUse
from service.metrics import Metrics
from service.streaming.events import Final
from service.streaming.measures import LIMIT_S, StreamMeasures

OSCILLATION_S = 300.0
"""Depth changes are told for so long."""
PERCENTILES = (50, 95, 99)


@dataclass(slots=True)
class Scores:
    """Gathers from all replicas.

    Args:
        changes: (time, replica) of each change of depth.
        shallow: (time, replica, layers) of what streams ran at below full depth, once a second.
    """

    lag_s: list[float] = field(default_factory=list[float])
    first_partial_s: list[float] = field(default_factory=list[float])
    final_s: list[float] = field(default_factory=list[float])
    encoded_s: dict[float, float] = field(default_factory=dict[float, float])
    dropped_s: float = 0.0
    offered_s: float = 0.0
    num_begun: int = 0
    num_ended: int = 0
    num_failed: int = 0
    num_refused: int = 0
    finals: int = 0
    changes: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    samples: list["Sample"] = field(default_factory=list["Sample"])


@dataclass(frozen=True, slots=True)
class Sample:
    """One replica at one moment, over the second before it.

    Args:
        layers: of the level that `auto` means.
        busy: share of the second that the engine worked.
    """

    at_s: float
    replica: int
    num_streams: int
    layers: float
    busy: float


class ScoringMeasures(StreamMeasures):
    """The service's own measures, which also keeps exact values where histograms have buckets.

    A subclass, as what sessions call may grow and the rest has to go on to the service's series.
    """

    def __init__(self, metrics: Metrics, info: ModelInfo, scores: Scores) -> None:
        super().__init__(metrics, info)
        self._scores = scores

    def stepped(self, plan: PlanInUse, cost: Cost, encoded_s: float) -> None:
        """Book a step."""
        super().stepped(plan, cost, encoded_s)
        spent = self._scores.encoded_s
        spent[plan.effective_layers] = spent.get(plan.effective_layers, 0.0) + encoded_s

    def lag(self, lag_s: float) -> None:
        """Note the lag of a packet."""
        super().lag(lag_s)
        self._scores.lag_s.append(lag_s)

    def first_partial(self, after_s: float) -> None:
        """Note first words."""
        super().first_partial(after_s)
        self._scores.first_partial_s.append(after_s)

    def finished(self, final: Final, plan: PlanInUse, after_s: float) -> None:
        """Note a final."""
        super().finished(final, plan, after_s)
        self._scores.finals += 1
        self._scores.final_s.append(after_s)

    def dropped(self, dropped_s: float) -> None:
        """Note audio that was not taken."""
        super().dropped(dropped_s)
        self._scores.dropped_s += dropped_s


def summary(
    scores: Scores, card: ModelCard, *, replicas: int, run_s: float, peak_s: tuple[float, float]
) -> dict[str, object]:
    """Say what a run came to.

    Returns:
        slo_lag: share of the packets that streams in work sent whose lag is at most a second; a
            packet that was dropped is late, those of refused streams are in `refused`.
        wer, wer_ratio: of the card, by depth, weighted by the audio that each encoded.
        depth_debt: mean share of the depth given up, weighted alike.
        changes_per_5_min: of a replica, over the run; `most_changes_settled`, the most that one
            replica has in the last five minutes of the peak, its first 30 s left out.
        recovery_s: from the peak's end until every replica is at full depth for good.
    """
    audio_s = sum(scores.encoded_s.values())
    full = card.full.layers_total
    late = sum(lag_s > LIMIT_S["lag"] for lag_s in scores.lag_s) + round(scores.dropped_s / 0.1)
    packets = len(scores.lag_s) + round(scores.dropped_s / 0.1)
    wer = _mean(scores.encoded_s, card.wer)
    debt = _mean(scores.encoded_s, {at: 1 - at / full for at in scores.encoded_s})
    first_s = max(peak_s[0] + 30, peak_s[1] - OSCILLATION_S)
    settled = [at for at in scores.changes if first_s <= at[0] <= peak_s[1]]
    return {
        "slo_lag": _share(packets - late, packets),
        "slo_first_partial": _kept(scores.first_partial_s, LIMIT_S["first_partial"]),
        "slo_final": _kept(scores.final_s, LIMIT_S["final"]),
        "lag_s": _percentiles(scores.lag_s),
        "first_partial_s": _percentiles(scores.first_partial_s),
        "final_s": _percentiles(scores.final_s),
        "wer": wer,
        "wer_ratio": wer / card.wer[card.full.effective_layers] if audio_s else None,
        "depth_debt": debt,
        "encoded_s": round(audio_s, 1),
        "dropped_s": round(scores.dropped_s, 1),
        "streams": scores.num_begun,
        "refused": scores.num_refused,
        "refused_share": _share(scores.num_refused, scores.num_refused + scores.num_begun),
        "failed": scores.num_failed,
        "changes": len(scores.changes),
        "changes_per_5_min": len(scores.changes) * OSCILLATION_S / (run_s * replicas),
        "most_changes_settled": _most_of_one(settled),
        "recovery_s": _recovery_s(scores.samples, full, peak_s[1]),
        "busy": _mean_busy(scores.samples, peak_s),
        "replicas_most": max((_there(scores.samples).values()), default=replicas),
        "replica_s": len(scores.samples),
    }


def _recovery_s(samples: Sequence[Sample], full: float, end_s: float) -> float:
    shallow = [sample.at_s for sample in samples if sample.layers < full and sample.num_streams]
    return round(max(0.0, max(shallow, default=0.0) - end_s), 1)


def _mean_busy(samples: Sequence[Sample], peak_s: tuple[float, float]) -> float | None:
    busy = [sample.busy for sample in samples if peak_s[0] <= sample.at_s <= peak_s[1]]
    return round(float(np.mean(busy)), 4) if busy else None


def _there(samples: Sequence[Sample]) -> dict[float, int]:
    found: dict[float, int] = {}
    for sample in samples:
        found[sample.at_s] = found.get(sample.at_s, 0) + 1
    return found


def _most_of_one(changes: Sequence[tuple[float, int]]) -> int:
    replicas = [replica for _, replica in changes]
    return max((replicas.count(one) for one in set(replicas)), default=0)


def _mean(weights: Mapping[float, float], values: Mapping[float, float]) -> float:
    total = sum(weights.values())
    return sum(weights[at] * values[at] for at in weights) / total if total else 0.0


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 5) if whole else None


def _kept(values: Sequence[float], limit_s: float) -> float | None:
    return _share(sum(value <= limit_s for value in values), len(values))


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    found = np.percentile(values, PERCENTILES)
    return {f"p{p}": round(float(v), 4) for p, v in zip(PERCENTILES, found, strict=True)}
