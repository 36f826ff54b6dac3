"""Many replicas: who gets the next stream, and a model of the autoscaler that adds and drains them.

The autoscaler reckons as the horizontal pod autoscaler does: `ceil(replicas * metric / target)` of
its largest metric, within a tolerance, every 15 s; a new replica takes streams after a delay; it
shrinks to the most that it wanted in the last five minutes, by draining.
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
STABLE_S = 300.0


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
        target_debt: mean automatic drop.
        target_cpu: share of the core.
        start_s: from the decision to a replica that takes streams.
        most: replicas.
    """

    name: ScalerName = "none"
    target_streams: float = 16.0
    target_debt: float = 0.1
    target_cpu: float = 0.7
    start_s: float = 40.0
    most: int = 64


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
        self._wanted.append((now_s, wanted))
        while self._wanted[0][0] < now_s - STABLE_S:
            self._wanted.popleft()
        return max(wanted, min(num_replicas, max(one for _, one in self._wanted)))

    def _ratios(self, samples: Sequence[Sample]) -> list[float]:
        count = len(samples)
        if self._rule.name == "cpu":
            return [sum(sample.busy for sample in samples) / count / self._rule.target_cpu]
        streams = sum(sample.num_streams for sample in samples)
        given_up = sum(
            sample.num_streams * (1 - sample.layers / self._layers_total) for sample in samples
        )
        debt = given_up / streams if streams else 0.0
        return [streams / count / self._rule.target_streams, debt / self._rule.target_debt]
