"""How many replicas there should be: a pure law on what replicas report of themselves.

    strained (depth debt, late chunks, nobody open) for a while --> as many as carry the demand
    spare (full depth, and fewer would keep it) for long         --> fewer, some at a time
    anything else                                                --> as many as there are

Brownout hides a load from whoever watches latency, so debt is what asks for replicas. What debt does
not say is how many: that is demand over what one replica carries at full depth, which an operator
states and the law corrects by what it sees.

Pure: it is told the time and carries nothing, so a simulator drives it as a fleet does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

Reason = Literal["debt", "late", "closed", "spare", "bounds", "steady", "silent"]

EVIDENCE_S = 30.0
"""A replica has to be strained, or calm, for so long before that tells what one carries: longer than
a depth takes to come back once its load is gone. Strain that brings replicas tells at once."""
HELD_S = 330.0
"""Behind an addition strain tells nothing for so long: a controller that tried a greater depth in vain does
not try again for five minutes, whether or not its load has gone elsewhere."""
MEMORY_S = 3600.0
"""What was learned holds for so long unless it is seen again; then what was stated is tried anew."""
LATE_SHARE = 0.05
"""Of the load, on late replicas, from which on a fleet is late."""
HIDDEN_DEMAND = 1.5
"""Where nobody takes streams, those that come are not counted: there may be half as many again."""
_TOLERANCE = 1e-9


class ReplicaLoad(Protocol):
    """What the law reads of a replica's report."""

    @property
    def weight(self) -> float:
        """Its streams and files, each as the depth it may claim."""
        ...

    @property
    def depth_debt(self) -> float:
        """Share of the depth that its load costs now."""
        ...

    @property
    def lag_s(self) -> float:
        """95th percentile of the time that chunks wait and take."""
        ...

    @property
    def open(self) -> bool:
        """Whether it takes one more stream."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRule:
    """What the law keeps to.

    Args:
        least, most: replicas.
        replica_weight: streams that one replica is thought to carry before it gives up depth.
        debt: mean over streams from which on depth is owed.
        late_s: a replica whose chunks take longer than that is late.
        fill: share of a replica that is planned to be in use after replicas were added. No more than
            the share of its load below which a controller stops holding its depth down (`relief`), or
            the depth would not come back with the replicas.
        keep: the same after some were taken away; the distance keeps a fleet from flapping.
        add_dwell_s: strain has to last so long, and so long lies between two additions.
        remove_dwell_s: the same of spare replicas, whatever the last change was.
        growth: times as many replicas, at most, by one decision; two more are always allowed.
        shrink: share of the replicas, at most, that one decision takes away; one is always allowed.

    Raises:
        ValueError: bounds or shares contradict each other.
    """

    least: int = 1
    most: int = 10
    replica_weight: float = 24.0
    debt: float = 0.05
    late_s: float = 0.6
    fill: float = 0.7
    keep: float = 0.6
    add_dwell_s: float = 5.0
    remove_dwell_s: float = 120.0
    growth: float = 4.0
    shrink: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"expected 1 <= least <= most, got {self.least} and {self.most}")
        if not 0 < self.keep < self.fill <= 1:
            raise ValueError(f"expected 0 < keep < fill <= 1, got {self.keep} and {self.fill}")
        if self.replica_weight <= 0:
            raise ValueError(f"expected a replica_weight above 0, got {self.replica_weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetReading:
    """A fleet at a moment.

    Args:
        now_s: of any clock that does not go back.
        num_replicas: that run or are coming: what was last wanted.
        num_running: of them, those that take streams.
        loads: of the running ones that have reported; those that leave are not among them.
    """

    now_s: float
    num_replicas: int
    num_running: int
    loads: Sequence[ReplicaLoad]

    @property
    def demand(self) -> float:
        """The weight of everything, with those who may have been turned away."""
        weight = sum(load.weight for load in self.loads)
        return weight if self.open else HIDDEN_DEMAND * max(1.0, weight)

    @property
    def open(self) -> bool:
        """Whether any replica takes streams."""
        return any(load.open for load in self.loads)

    @property
    def coming(self) -> bool:
        """Whether replicas are on their way."""
        return self.num_running < self.num_replicas


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What the law remembers from one decision to the next; plain numbers, for whoever carries it.

    Args:
        strained_since_s, spare_since_s, changed_at_s, added_at_s: None where it is not so, or never was.
        window_since_s, window_strained, window_weight: how loaded replicas were while nothing changed.
        strained_weight, strained_at_s: the least load that cost depth, and when that was seen.
        calm_weight, calm_at_s: the most load that did not.
    """

    strained_since_s: float | None = None
    spare_since_s: float | None = None
    changed_at_s: float | None = None
    added_at_s: float | None = None
    window_since_s: float | None = None
    window_strained: bool = False
    window_weight: float = 0.0
    strained_weight: float = math.inf
    strained_at_s: float = -math.inf
    calm_weight: float = 0.0
    calm_at_s: float = -math.inf


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """What there should be.

    Args:
        wanted: replicas.
        reason: why it is another number than before; `steady` where it is not, `silent` where
            replicas run that say nothing of themselves, so that none is taken away.
        state: for the next decision.
    """

    wanted: int
    reason: Reason
    state: ScalingState = field(default_factory=ScalingState)


def decide(rule: ScalingRule, fleet: FleetReading, state: ScalingState) -> ScalingDecision:
    """Say how many replicas there should be.

    Args:
        rule: what to keep to.
        fleet: as it is now.
        state: of the last decision; a fresh one at first.
    """
    num = fleet.num_replicas
    strain = _strain(rule, fleet)
    state = _learn(rule, fleet, state, strained=strain is not None)
    capacity = carried_weight(rule, state)
    fewest = _replicas_for(fleet.demand, rule.keep * capacity)
    spare = strain is None and bool(fleet.loads) and max(rule.least, fewest) < num
    state = replace(
        state,
        strained_since_s=_since(state.strained_since_s, fleet.now_s, holds=strain is not None),
        spare_since_s=_since(state.spare_since_s, fleet.now_s, holds=spare),
    )
    if not rule.least <= num <= rule.most:
        return _changed(fleet, state, min(rule.most, max(rule.least, num)), "bounds")
    if strain is not None and _lasted(fleet.now_s, state.strained_since_s, state, rule.add_dwell_s):
        needed = _replicas_for(fleet.demand, rule.fill * capacity)
        at_once = max(num + 2, math.floor(num * rule.growth))
        wanted = min(rule.most, needed, at_once)
        if wanted > num:
            # Booked now: while replicas come nothing is learned, and once they are there it is over.
            if not _is_held(state, fleet.now_s):
                state = _booked(state, fleet.now_s)
            state = replace(state, added_at_s=fleet.now_s)
            return _changed(fleet, state, wanted, strain)
    if spare and len(fleet.loads) < fleet.num_running:
        return ScalingDecision(num, "silent", replace(state, spare_since_s=None))
    if spare and _lasted(fleet.now_s, state.spare_since_s, state, rule.remove_dwell_s):
        at_once = max(1, math.floor(num * rule.shrink))
        return _changed(fleet, state, max(rule.least, fewest, num - at_once), "spare")
    return ScalingDecision(num, "steady", state)


def carried_weight(rule: ScalingRule, state: ScalingState) -> float:
    """Give what one replica is thought to carry at full depth: as stated, between what was seen."""
    return min(state.strained_weight, max(state.calm_weight, rule.replica_weight))


def _strain(rule: ScalingRule, fleet: FleetReading) -> Literal["debt", "late", "closed"] | None:
    if not fleet.loads:
        return None
    weights = [max(_TOLERANCE, load.weight) for load in fleet.loads]
    total = sum(weights)
    owed = sum(weight * load.depth_debt for weight, load in zip(weights, fleet.loads, strict=True))
    if owed > rule.debt * total:
        return "debt"
    late = sum(
        weight
        for weight, load in zip(weights, fleet.loads, strict=True)
        if load.lag_s > rule.late_s
    )
    if late > LATE_SHARE * total:
        return "late"
    return None if fleet.open else "closed"


def _learn(
    rule: ScalingRule, fleet: FleetReading, state: ScalingState, *, strained: bool
) -> ScalingState:
    """Follow how loaded replicas are while they are strained, or calm, without a break."""
    now_s = fleet.now_s
    if now_s - state.strained_at_s > MEMORY_S:
        state = replace(state, strained_weight=math.inf)
    if now_s - state.calm_at_s > MEMORY_S:
        state = replace(state, calm_weight=0.0)
    if fleet.coming or not fleet.loads:
        return replace(state, window_since_s=None)
    weight = _usual_weight(
        [load.weight for load in fleet.loads if not strained or _is_strained(rule, load)]
    )
    since_s = state.window_since_s
    if since_s is None or state.window_strained is not strained:
        return replace(state, window_since_s=now_s, window_strained=strained, window_weight=weight)
    # Against the claim: the most that strained replicas had, the least that calm ones did.
    kept = max if strained else min
    state = replace(state, window_weight=kept(state.window_weight, weight))
    if now_s - since_s < EVIDENCE_S or (strained and _is_held(state, now_s)):
        return state
    return replace(_booked(state, now_s), window_since_s=now_s, window_weight=weight)


def _booked(state: ScalingState, now_s: float) -> ScalingState:
    weight = state.window_weight
    if state.window_since_s is None or not weight:
        return state
    if state.window_strained:
        if weight > state.strained_weight:
            return state
        calm_weight = min(state.calm_weight, weight)
        return replace(state, strained_weight=weight, strained_at_s=now_s, calm_weight=calm_weight)
    if weight < state.calm_weight:
        return state
    strained_weight = max(state.strained_weight, weight)
    return replace(state, calm_weight=weight, calm_at_s=now_s, strained_weight=strained_weight)


def _is_held(state: ScalingState, now_s: float) -> bool:
    return state.added_at_s is not None and now_s - state.added_at_s < HELD_S


def _is_strained(rule: ScalingRule, load: ReplicaLoad) -> bool:
    return load.depth_debt > rule.debt or load.lag_s > rule.late_s or not load.open


def _usual_weight(weights: Sequence[float]) -> float:
    """Give the weight beside which a stream usually runs: the mean over streams, not replicas."""
    total = sum(weights)
    return sum(weight * weight for weight in weights) / total if total else 0.0


def _replicas_for(demand: float, weight: float) -> int:
    return math.ceil(demand / weight - _TOLERANCE)


def _since(since_s: float | None, now_s: float, *, holds: bool) -> float | None:
    if not holds:
        return None
    return now_s if since_s is None else since_s


def _lasted(now_s: float, since_s: float | None, state: ScalingState, dwell_s: float) -> bool:
    changed_s = -math.inf if state.changed_at_s is None else state.changed_at_s
    return since_s is not None and now_s - max(since_s, changed_s) >= dwell_s - _TOLERANCE


def _changed(
    fleet: FleetReading, state: ScalingState, wanted: int, reason: Reason
) -> ScalingDecision:
    return ScalingDecision(
        wanted,
        reason,
        replace(state, changed_at_s=fleet.now_s, window_since_s=None, spare_since_s=None),
    )
