"""The most streams that a fixed depth keeps up with."""

from benchmarks.simulator.scores import Scores
from benchmarks.simulator.simulation import FleetConfig, simulate
from benchmarks.simulator.traces import make_trace
from service.streaming.measures import LIMIT_S

KEPT = 0.99
"""Share of the audio whose lag has to be within the limit."""
MOST_STREAMS = 4096


def capacity(config: FleetConfig, *, seconds: float, seed: int) -> int:
    """Find by halving how many constant streams keep their lag; 0 where not even one does."""

    def keeps(streams: int) -> bool:
        trace = make_trace("constant", peak=streams, load_s=seconds, tail_s=0, seed=seed)
        return kept_share(simulate(trace, config)) >= KEPT

    most = 1
    while most < MOST_STREAMS and keeps(most):
        most *= 2
    low, high = most // 2, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def kept_share(scores: Scores) -> float:
    """Share of the packets whose lag was within the limit."""
    if scores.num_refused or scores.dropped_s or not scores.lag_s:
        return 0.0
    return sum(lag_s <= LIMIT_S["lag"] for lag_s in scores.lag_s) / len(scores.lag_s)
