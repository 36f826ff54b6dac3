"""`decide` as Ray Serve calls it: in its control loop, in the controller's process."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from service.fleet.reports import ReplicaReport
from service.fleet.scaling import FleetReading, ScalingRule, ScalingState, decide

logger = logging.getLogger(__name__)


class Point(Protocol):
    """A reported value."""

    value: float


class ScalingContext(Protocol):
    """What of Serve's context is read."""

    @property
    def target_num_replicas(self) -> int:
        """Replicas that were last wanted."""
        ...

    @property
    def running_replicas(self) -> Sequence[object]:
        """Those that take requests."""
        ...

    @property
    def raw_metrics(self) -> Mapping[str, Mapping[Any, Sequence[Point]]] | None:
        """By name and replica, what they reported, oldest first."""
        ...

    @property
    def policy_state(self) -> Mapping[str, Any]:
        """What was returned last."""
        ...


class ScalingPolicy:
    """Serve's policy: made once by the controller, from what is JSON, and called again and again.

    Args:
        rule: the arguments of a `ScalingRule`.
    """

    def __init__(self, **rule: float) -> None:
        self._rule = ScalingRule(**rule)  # pyright: ignore[reportArgumentType] whole numbers stay so
        # Imported here: what is above and below reads reports, and needs no Ray for that.
        from service.fleet.ledger import Ledger

        self._ledger = Ledger()

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        """Say how many replicas there should be, and what to remember."""
        reading = FleetReading(
            now_s=time.monotonic(),
            num_replicas=context.target_num_replicas,
            num_running=len(context.running_replicas),
            loads=latest_reports(context),
        )
        decision = decide(self._rule, reading, ScalingState(**context.policy_state.get("law", {})))
        if decision.wanted != reading.num_replicas:
            logger.warning(
                "replicas: %d -> %d (%s)", reading.num_replicas, decision.wanted, decision.reason
            )
            self._ledger.add(decision.reason)
        return decision.wanted, {"law": asdict(decision.state)}


def latest_reports(context: ScalingContext) -> list[ReplicaReport]:
    """Put together what each running replica reported last."""
    stats: dict[Any, dict[str, float]] = {}
    for name, by_replica in (context.raw_metrics or {}).items():
        for replica, points in by_replica.items():
            if points:
                stats.setdefault(replica, {})[name] = points[-1].value
    return [
        ReplicaReport.from_stats(stats[replica])
        for replica in context.running_replicas
        if replica in stats
    ]
