"""Many replicas: who gets the next stream, and a model of the autoscaler that adds and drains them.

The autoscaler reckons as the horizontal pod autoscaler does with the manifest in `k8s/base`: every
15 s `ceil(replicas * mean / target)` of its largest metric, within a tolerance; at most twice as many
as half a minute before, or two more; a new replica takes streams after a delay. It shrinks to the most
that it wanted in the last ten minutes, by draining, one replica in five minutes.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from benchmarks.simulator.replica import Replica
from benchmarks.simulator.scores import Sample

RouterName = Literal["least-streams", "round-robin"]
ROUTERS: tuple[RouterName, ...] = get_args(RouterName)
ScalerName = Literal["none", "debt", "cpu"]
SCALERS: tuple[ScalerName, ...] = get_args(ScalerName)

SYNC_S = 15.0
TOLERANCE = 0.1
STABLE_S = 600.0
GROWTH_S = 30.0
GROWTH_FACTOR, GROWTH_REPLICAS = 2, 2
"""What it may grow by in `GROWTH_S`, whichever is more."""
SHRINK_S = 300.0
"""Least time between two replicas that are drained."""


class Router:
    """Sends each new stream to one of the replicas that take any.

    Args:
        name: the emptiest, or each in turn.
    """

    def __init__(self, name: RouterName) -> None:
        self._name = name
        self._turn = 0

    def choose(self, replicas: Sequence[Replica]) -> Replica:
        """Pick one; those that drain are passed over."""
        there = [replica for replica in replicas if not replica.draining]
        self._turn += 1
        if self._name == "round-robin":
            return there[self._turn % len(there)]
        return min(there, key=lambda replica: (replica.num_streams, replica.number))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRule:
    """What the autoscaler steers to.

    Args:
        name: `debt` is depth debt and active streams, `cpu` the share of the core in use.
        target_streams: active streams of a replica.
        target_debt: mean over replicas of the automatic drop; an empty one has none.
        target_cpu: share of the core.
        start_s: from the decision to a replica that takes streams.
        most: replicas.
    """

    name: ScalerName = "none"
    target_streams: float = 12.0
    target_debt: float = 0.1
    target_cpu: float = 0.7
    start_s: float = 40.0
    most: int = 10


class Autoscaler:
    """Says how many replicas there should be.

    Args:
        rule: what it goes by.
        least: replicas.
        layers_total: of the model.
    """

    def __init__(self, rule: ScalingRule, least: int, layers_total: int) -> None:
        self._rule = rule
        self._least = least
        self._layers_total = layers_total
        self._wanted: deque[tuple[float, int]] = deque()
        self._there: deque[tuple[float, int]] = deque()
        self._shrunk_at_s = 0.0

    def wanted(self, now_s: float, num_replicas: int, samples: Sequence[Sample]) -> int:
        """Decide.

        Args:
            now_s: time.
            num_replicas: that take streams or are about to.
            samples: of all replicas since the last decision.
        """
        if self._rule.name == "none" or not samples:
            return num_replicas
        ratio = max(self._ratios(samples))
        wanted = num_replicas
        if abs(ratio - 1) > TOLERANCE:
            wanted = math.ceil(num_replicas * ratio - 1e-9)
        wanted = min(self._rule.most, max(self._least, wanted))
        _remember(self._wanted, (now_s, wanted), STABLE_S)
        _remember(self._there, (now_s, num_replicas), GROWTH_S)
        before = self._there[0][1]
        if wanted >= num_replicas:
            return min(wanted, max(num_replicas, GROWTH_FACTOR * before, before + GROWTH_REPLICAS))
        wanted = max(one for _, one in self._wanted)
        if wanted >= num_replicas or now_s - self._shrunk_at_s < SHRINK_S:
            return num_replicas
        self._shrunk_at_s = now_s
        return num_replicas - 1

    def _ratios(self, samples: Sequence[Sample]) -> list[float]:
        count = len(samples)
        if self._rule.name == "cpu":
            return [sum(sample.busy for sample in samples) / count / self._rule.target_cpu]
        streams = sum(sample.num_streams for sample in samples)
        debt = sum(1 - one.layers / self._layers_total for one in samples if one.num_streams)
        return [streams / count / self._rule.target_streams, debt / count / self._rule.target_debt]


def _remember(past: deque[tuple[float, int]], now: tuple[float, int], length_s: float) -> None:
    past.append(now)
    while past[0][0] < now[0] - length_s:
        past.popleft()
