"""The budget controller: how deep streams run that leave the depth to us, and why it changed.

    readings --> law --> dimmer --> depths whose word errors were measured --> decision
                (brownout, slack)    hysteresis, dwell, no depth tried twice in vain

What is cheaper to give up than depth goes first: the controller is `strained` before it takes the
first depth, and calm again only some time after it has given back the last.

Pure: it is told the time and what was measured, so a simulator drives it as the service does.
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from service.scheduling.levels import DepthLevel

logger = logging.getLogger(__name__)

AUDIT_SIZE = 256
"""Decisions that are kept for whoever asks why."""
Reason = Literal["overload", "burst", "recovery", "idle"]
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured up to a moment.

    Args:
        at_s: of the controller's clock.
        latency_s: 95th percentile over chunks of wait and step time; of what waits now, if longer.
        samples: chunks in it; 0 says nothing of latency, unless something waits.
        num_streams: that had a chunk lately: the demand.
        busy_ratio: share of the time that the engine worked; 1 where nobody knows.
    """

    at_s: float
    latency_s: float
    samples: int
    num_streams: int
    busy_ratio: float = 1.0

    @property
    def idle(self) -> bool:
        """Whether nobody wants anything."""
        return not self.samples and not self.num_streams and not self.latency_s


class DimmerLaw(Protocol):
    """Turns readings into a dimmer in [floor, 1]; knows nothing of depths on offer."""

    def next_dimmer(self, reading: Reading, ceiling: float = 1.0) -> float:
        """Give the dimmer after a reading.

        Args:
            reading: comes at a fixed rate.
            ceiling: the highest value that would have an effect now; the law must not run past it,
                or it would have to come all the way back before it acts (windup).
        """
        ...

    def follow(self, dimmer: float) -> None:
        """Take over a dimmer that was decided elsewhere, and go on from there."""
        ...


class FixedDepth:
    """The law of an experiment: never turns."""

    def next_dimmer(self, reading: Reading, ceiling: float = 1.0) -> float:
        """Give 1, whatever was measured."""
        del reading, ceiling
        return 1.0

    def follow(self, dimmer: float) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A change of depth and what it was made from."""

    at_s: float
    from_layers: float
    to_layers: float
    reason: Reason
    measured_s: float
    setpoint_s: float
    dimmer: float
    num_streams: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Damping:
    """What keeps the depth from flapping.

    Args:
        dwell_s: least time between a change and a fall.
        rise_dwell_s: least time between a change and a rise, which goes one depth at a time.
        hysteresis: share of the way to the next depth below that the dimmer goes before a fall.
        hold_s: after a fall that a new load caused, no rise for so long.
        failed_hold_s: after a rise at the demand that depth was given up for, and after one that
            had to be taken back; then it doubles with each further one. So a constant load sees
            two changes in so long: a try and its end.
        max_hold_s: it doubles no further.
        relief: holds end once the demand is below this share of what it was at the fall.
        demand_memory_s: time constant over which the demand is averaged.
        calm_s: at full depth, with nothing to complain of, before cheaper things come back.
        busy_ratio: of the engine, from which on latency is made of load. Below, it is two chunks
            and a final that met in one round, and depth would not help.
        rest_ratio: below it there is no load, whatever the latency, and nothing is held, unless the
            same streams at full depth would make the engine busy: it would go to and fro.
    """

    dwell_s: float = 1.0
    rise_dwell_s: float = 2.0
    hysteresis: float = 0.5
    hold_s: float = 15.0
    failed_hold_s: float = 300.0
    max_hold_s: float = 1200.0
    relief: float = 0.7
    demand_memory_s: float = 4.0
    calm_s: float = 5.0
    busy_ratio: float = 0.6
    rest_ratio: float = 0.4


class BudgetController:
    """Chooses a level from a law's dimmer.

    Args:
        law: gives the dimmer; its floor is that of the last level.
        levels: from `usable_levels`.
        setpoint_s: the latency that the law steers to; for the record.
        damping: against flapping.
    """

    def __init__(
        self,
        law: DimmerLaw,
        levels: Sequence[DepthLevel],
        *,
        setpoint_s: float,
        damping: Damping | None = None,
    ) -> None:
        self._law = law
        self.levels = tuple(levels)
        self.setpoint_s = setpoint_s
        self._damping = damping or Damping()
        self._index = 0
        self._dimmer = 1.0
        self._demand = 0.0
        self._read_at_s: float | None = None
        self._changed_at_s = float("-inf")
        self._strained_until_s: float | None = None
        self._trial: tuple[int, float] | None = None  # the level risen to, and the demand then
        self._no_rise = _Hold()
        self.decisions: deque[Decision] = deque(maxlen=AUDIT_SIZE)

    @property
    def level(self) -> DepthLevel:
        """The depth that `auto` means now."""
        return self.levels[self._index]

    @property
    def floor(self) -> DepthLevel:
        """The shallowest level."""
        return self.levels[-1]

    @property
    def at_floor(self) -> bool:
        """Whether nothing is left to give up."""
        return self._index == len(self.levels) - 1

    @property
    def dimmer(self) -> float:
        """What the law says, between the levels."""
        return self._dimmer

    @property
    def changed_at_s(self) -> float:
        """When depth or cheaper things were last given up; what was before says nothing of now."""
        return self._changed_at_s

    @property
    def strained(self) -> bool:
        """Whether everything cheaper than depth has to be given up."""
        return self._strained_until_s is not None

    def is_load(self, reading: Reading) -> bool:
        """Tell whether latency is made of load, which depth or fewer streams would help."""
        return reading.busy_ratio >= self._damping.busy_ratio

    def tick(
        self, reading: Reading, *, in_burst: bool = False, deepest: int = 0
    ) -> Decision | None:
        """Take a reading, at a fixed rate, idle or not; give the decision, if there is one.

        Args:
            reading: of the moment.
            in_burst: whether many streams have just come. What their first chunks, all due at once,
                take says little of what they will: a fall is held against no rise.
            deepest: index of the deepest level that may carry the load; nothing above it is tried.
        """
        self._follow_demand(reading)
        if not (reading.samples or reading.latency_s or reading.idle):
            return None
        if self._rests(reading):
            self._no_rise = _Hold()
        self._dimmer = self._law.next_dimmer(
            self._made_of_load(reading), self._ceiling(reading.at_s, deepest)
        )
        if self._gives_up_less(reading.at_s):
            return None
        wanted = self._wanted(reading, deepest)
        if wanted == self._index:
            return None
        return self._change(wanted, reading, in_burst=in_burst)

    def foresee(self, wanted: int, reading: Reading) -> Decision | None:
        """Give up depth for streams that have just come, before the first of them is late.

        Everything cheaper goes with it. Nothing is held for it: where too much was given up, what is
        measured brings it back.

        Args:
            wanted: index of the level that the streams will need; none above this one is taken.
            reading: of the moment, for the record.
        """
        if wanted <= self._index:
            return None
        self._strained_until_s = reading.at_s + self._damping.calm_s
        self._law.follow(self.levels[wanted].dimmer)
        self._dimmer = self.levels[wanted].dimmer
        self._trial = None
        self._demand = self._demand_at(reading)  # a rise that fails soon fails at this demand
        return self._turn(wanted, reading, "burst")

    def _follow_demand(self, reading: Reading) -> None:
        since_s = 0.0 if self._read_at_s is None else reading.at_s - self._read_at_s
        self._read_at_s = reading.at_s
        weight = min(1.0, since_s / self._damping.demand_memory_s)
        self._demand += weight * (reading.num_streams - self._demand)
        if self._demand < self._damping.relief * self._no_rise.demand:
            self._no_rise = _Hold()

    def _rests(self, reading: Reading) -> bool:
        """Tell whether there is no load here, and would be none at full depth."""
        damping = self._damping
        return reading.busy_ratio < min(damping.rest_ratio, damping.busy_ratio * self.level.cost)

    def _made_of_load(self, reading: Reading) -> Reading:
        """Leave of a reading what a law can do something about."""
        if self.is_load(reading):
            return reading
        if self._rests(reading):
            return Reading(reading.at_s, 0.0, 0, 0, reading.busy_ratio)
        return replace(reading, latency_s=min(reading.latency_s, self.setpoint_s))

    def _gives_up_less(self, now_s: float) -> bool:
        """Be strained as long as the dimmer is not at 1; tell whether that is what was missing."""
        if self._dimmer < 1 - _TOLERANCE:
            missing = self._strained_until_s is None
            self._strained_until_s = now_s + self._damping.calm_s
            if missing:  # measure first what that alone is worth
                self._law.follow(1.0)
                self._dimmer, self._changed_at_s = 1.0, now_s
            return missing
        if self._strained_until_s is not None and now_s >= self._strained_until_s:
            self._strained_until_s = None
        return False

    def _ceiling(self, now_s: float, deepest: int) -> float:
        held = now_s < self._no_rise.until_s or self._index <= deepest
        return self.levels[self._index if held else max(0, self._index - 1)].dimmer

    def _wanted(self, reading: Reading, deepest: int) -> int:
        since_change_s = reading.at_s - self._changed_at_s
        here = self.level.dimmer
        if not self.at_floor and since_change_s >= self._damping.dwell_s:
            gap = here - self.levels[self._index + 1].dimmer
            if self._dimmer < here - self._damping.hysteresis * gap - _TOLERANCE:
                reached = (
                    index
                    for index, level in enumerate(self.levels)
                    if level.dimmer <= self._dimmer + _TOLERANCE
                )
                return next(reached, len(self.levels) - 1)
        above = self._index - 1
        if (
            above >= deepest
            and since_change_s >= self._damping.rise_dwell_s
            and reading.at_s >= self._no_rise.until_s
            and self._dimmer >= self.levels[above].dimmer - _TOLERANCE
        ):
            return above
        return self._index

    def _change(self, wanted: int, reading: Reading, *, in_burst: bool) -> Decision:
        falls = wanted > self._index
        if falls:
            in_vain = self._risen_in_vain(reading)
            if in_vain or not in_burst:
                self._no_rise = self._hold_after_fall(reading, in_vain=in_vain)
            self._trial = None
            if in_vain:  # back to where it came from, which held; further only if that does not
                wanted = self._index + 1
                self._law.follow(self.levels[wanted].dimmer)
        else:
            self._trial = (wanted, self._demand)
            self._no_rise = self._hold_after_rise(reading.at_s)
        return self._turn(
            wanted, reading, "overload" if falls else "idle" if reading.idle else "recovery"
        )

    def _turn(self, wanted: int, reading: Reading, reason: Reason) -> Decision:
        decision = Decision(
            reading.at_s,
            self.level.layers,
            self.levels[wanted].layers,
            reason,
            reading.latency_s,
            self.setpoint_s,
            self._dimmer,
            reading.num_streams,
        )
        self._index, self._changed_at_s = wanted, reading.at_s
        self.decisions.append(decision)
        logger.info(
            "depth %g -> %g layers: %s; measured %.3f s, set point %.3f s, dimmer %.3f, %d streams",
            decision.from_layers,
            decision.to_layers,
            decision.reason,
            decision.measured_s,
            decision.setpoint_s,
            decision.dimmer,
            decision.num_streams,
        )
        return decision

    def _risen_in_vain(self, reading: Reading) -> bool:
        """Tell whether this level was risen to at a demand that is much as it was."""
        if self._trial is None or self._trial[0] != self._index:
            return False
        return self._damping.relief * self._demand_at(reading) <= self._trial[1]

    def _demand_at(self, reading: Reading) -> float:
        return max(self._demand, float(reading.num_streams))  # the average lags behind a step

    def _hold_after_fall(self, reading: Reading, *, in_vain: bool) -> "_Hold":
        damping, last, now_s = self._damping, self._no_rise, reading.at_s
        demand = self._demand = self._demand_at(reading)
        if not in_vain:
            # Whether a new load came or the fall goes on: whatever was learned still holds.
            until_s = max(now_s + damping.hold_s, last.until_s)
            return _Hold(until_s, demand, last.length_s)
        length_s = min(damping.max_hold_s, max(damping.failed_hold_s, 2 * last.length_s))
        return _Hold(now_s + length_s, demand, length_s)

    def _hold_after_rise(self, now_s: float) -> "_Hold":
        last = self._no_rise
        if not last.demand:  # the demand that depth was given up for is gone
            return last
        # That one level carries it for a moment says little, and of the next one nothing: rises
        # in a row would be taken back in a row, each a change that the same demand made.
        return replace(last, until_s=max(last.until_s, now_s + self._damping.failed_hold_s))


@dataclass(frozen=True, slots=True)
class _Hold:
    """No rise until then, unless the demand falls; `length_s` is that of the last failed rise."""

    until_s: float = float("-inf")
    demand: float = 0.0
    length_s: float = 0.0
