"""What a fleet's run came to: by the second, and as a row of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.simulator.scores import Scores
from service.streaming.measures import LIMIT_S

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Moment:
    """One second.

    Args:
        at_s: its end.
        lag_p95_s: of the packets whose lag became known in it; None without any.
        layers: mean over streams of the depth that `auto` means; full without streams.
        debt: mean over streams of the share given up.
        replicas, coming: those that run, those that drain among them; those on their way.
        streams, waiting: those in work; those that are refused and ask again.
    """

    at_s: float
    lag_p95_s: float | None
    layers: float
    debt: float
    replicas: int
    coming: int
    streams: float
    waiting: float

    @classmethod
    def of(
        cls,
        at_s: float,
        lags_s: Sequence[float],
        replicas: Sequence[tuple[int, float]],
        *,
        coming: int,
        waiting: int,
        full_layers: float,
    ) -> "Moment":
        """Make one of each replica's streams and layers."""
        streams = sum(count for count, _ in replicas)
        spent = sum(count * layers for count, layers in replicas)
        layers = spent / streams if streams else full_layers
        return cls(
            round(at_s, 3),
            round(float(np.percentile(lags_s, 95)), 4) if lags_s else None,
            round(layers, 4),
            round(1 - layers / full_layers, 4),
            len(replicas),
            coming,
            streams,
            waiting,
        )


@dataclass(slots=True)
class FleetScores:
    """Gathers from a fleet.

    Args:
        all: what its replicas have seen.
        unserved_s: audio that nobody took, because its client was refused.
        decisions: (time, replicas, reason).
        latencies_s: of the first replica's chunks as its controller measures them, by the second.
    """

    all: Scores
    num_moves: int = 0
    unserved_s: float = 0.0
    moments: list[Moment] = field(default_factory=list[Moment])
    decisions: list[tuple[float, int, str]] = field(default_factory=list[tuple[float, int, str]])
    latencies_s: list[float] = field(default_factory=list[float])


def fleet_summary(
    scores: FleetScores, wer: Mapping[float, float], *, full_layers: float
) -> dict[str, object]:
    """Say what a run came to.

    Returns:
        words_lost: share of all words offered that are wrong or were never heard, less those that
            full depth gets wrong: what meeting the load cost. `by_depth` and `by_refusal` add up to it.
        slo_lag: share of the packets in time; lag_over_s: seconds whose p95 was above the limit.
    """
    lags_s, encoded = scores.all.lag_s, scores.all.encoded_s
    heard_s = sum(encoded.values())
    served = 1 - scores.unserved_s / scores.all.offered_s if scores.all.offered_s else 1.0
    return {
        **words(encoded, wer, full_layers=full_layers, served=served),
        "slo_lag": round(sum(lag <= LIMIT_S["lag"] for lag in lags_s) / max(1, len(lags_s)), 5),
        "lag_s": {f"p{at}": round(float(np.percentile(lags_s, at)), 4) for at in (50, 95, 99)}
        if lags_s
        else None,
        "heard_s": round(heard_s, 1),
        "offered_s": round(scores.all.offered_s, 1),
        "unserved_s": round(scores.unserved_s, 1),
        "dropped_s": round(scores.all.dropped_s, 1),
        "sessions": scores.all.num_begun,
        "refused": scores.all.num_refused,
        "moves": scores.num_moves,
        **timeline_summary(scores.moments),
        "decisions": scores.decisions,
    }


def words(
    encoded_s: Mapping[float, float],
    wer: Mapping[float, float],
    *,
    full_layers: float,
    served: float,
) -> dict[str, object]:
    """Reckon words by the audio at each depth and the share of the audio that was taken at all."""
    heard_s = sum(encoded_s.values())
    mean = sum(at_s * wer[at] for at, at_s in encoded_s.items()) / heard_s if heard_s else 0.0
    depth = served * (mean - wer[full_layers]) if heard_s else 0.0
    refusal = (1 - served) * (1 - wer[full_layers])
    return {
        "wer_ratio": round(mean / wer[full_layers], 4) if heard_s else None,
        "words_lost": round(depth + refusal, 5),
        "by_depth": round(depth, 5),
        "by_refusal": round(refusal, 5),
    }


def timeline_summary(moments: Sequence[Moment]) -> dict[str, object]:
    """Sum up what is known by the second, each moment standing for the time since the last."""
    if not moments:
        return {}
    steps_s = np.diff([0.0, *(one.at_s for one in moments)])
    streams = np.array([one.streams for one in moments])
    debt = np.array([one.debt for one in moments])
    late = [one.lag_p95_s is not None and one.lag_p95_s > LIMIT_S["lag"] for one in moments]
    weights = streams * steps_s
    return {
        "replica_hours": round(
            float(
                sum(
                    (one.replicas + one.coming) * s for one, s in zip(moments, steps_s, strict=True)
                )
            )
            / HOUR_S,
            4,
        ),
        "replicas_most": max(one.replicas for one in moments),
        "streams_most": round(float(streams.max()), 1),
        "depth_debt": round(float(weights @ debt) / max(1e-9, float(weights.sum())), 4),
        "lag_over_s": round(float(steps_s @ np.array(late, float)), 1),
        "in_debt_s": round(float(steps_s @ (debt > 0.01)), 1),
    }
