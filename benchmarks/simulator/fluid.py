"""Fleets too large to simulate by the stream: replicas as fluid queues, in cohorts that are alike.

A cohort is the replicas that started together. It has a mean number of streams a replica, which is
what its latency follows, by a table of the detailed mode; streams come, end, ask again and move as
flows. Each cohort has one controller, which is the service's; the scaling law is too. So a fleet
of 100,000 streams costs as much as one of 1,000: what is lost is chance (all replicas of a cohort are
equally loaded, speak at the same rate and change depth at the same moment) and the door's prediction
(a fixed number of places).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.simulator.fleet_load import TICK_S, FleetLoad
from benchmarks.simulator.fleet_run import FleetPlan
from benchmarks.simulator.fleet_scores import FleetScores, Moment
from benchmarks.simulator.fluid_table import ReplicaTable
from benchmarks.simulator.scores import Scores
from service.engine.base import ModelInfo
from service.fleet.reports import ReplicaReport
from service.fleet.scaling import FleetReading, ScalingState, decide
from service.scheduling.controller import BudgetController, Damping, Reading
from service.scheduling.levels import usable_levels
from service.scheduling.load_control import ControlConfig, make_law, measured_levels
from service.scheduling.load_window import WINDOW_S

SCALES_EVERY_S = 2.0
LEAVES_WITHIN_S = 5.0
"""Mean time to the pause in which a stream that was asked moves."""
DRAINS_S = 10.0
"""A replica that leaves is paid for so long."""
CHUNKS_A_SECOND = 1 / 0.576
SAME_STREAMS = 0.25
"""Cohorts become one when they are at the same depth and differ by less."""
MERGES_EVERY_S = 30.0


def simulate_fluid(load: FleetLoad, plan: FleetPlan, table: ReplicaTable) -> FleetScores:
    """Run a load to its end; equal arguments give equal scores."""
    return _FluidRun(load, plan, table).play()


@dataclass(slots=True, eq=False)
class _Cohort:
    size: int
    controller: BudgetController
    streams: float = 0.0  # of each replica
    latency_s: float = 0.0

    @property
    def layers(self) -> float:
        return self.controller.level.layers

    def tick(self, now_s: float, table: ReplicaTable, full_layers: float) -> float:
        """Follow the table and decide; give the 95th percentile of the lag."""
        strained = self.controller.strained
        case = table.case(self.layers, strained=strained, full_layers=full_layers)
        share = min(1.0, TICK_S / WINDOW_S * 2)
        self.latency_s += share * (case.latency_s.at(self.streams) - self.latency_s)
        speaking = self.streams * table.speech_share
        # None for less than half a chunk in the window, or a decaying trace would never be idle.
        samples = round(speaking * CHUNKS_A_SECOND * WINDOW_S)
        latency_s = self.latency_s if samples else 0.0
        self.controller.tick(
            Reading(now_s, latency_s, samples, round(speaking), case.busy.at(self.streams))
        )
        return case.lag_p95_s.at(self.streams)


@dataclass(slots=True)
class _FluidRun:
    load: FleetLoad
    plan: FleetPlan
    table: ReplicaTable
    scores: FleetScores = field(default_factory=lambda: FleetScores(Scores()))
    cohorts: list[_Cohort] = field(default_factory=list[_Cohort])
    coming: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    draining: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    waiting: float = 0.0
    moves: float = 0.0
    refused: float = 0.0
    state: ScalingState = field(default_factory=ScalingState)

    @property
    def num_running(self) -> int:
        return sum(one.size for one in self.cohorts)

    @property
    def places(self) -> int:
        policy, most = self.plan.replica.policy, self.plan.replica.max_streams
        return min(most, self.table.places[policy.name]) if policy.early_refusal else most

    def play(self) -> FleetScores:
        self.cohorts.append(self._cohort(self.plan.replicas or self.plan.rule.least))
        self._arrive(self.load.streams(0.0))
        for tick in range(1, round(self.load.seconds / TICK_S) + 1):
            now_s = tick * TICK_S
            self._flow(now_s)
            lags_s = [
                one.tick(now_s, self.table, self.plan.replica.card.full.effective_layers)
                for one in self.cohorts
            ]
            self._book()
            if now_s % SCALES_EVERY_S == 0:
                self._note(now_s, lags_s)
                self._scale(now_s)
            if now_s % MERGES_EVERY_S == 0:
                self._merge()
        self.scores.num_moves = round(self.moves)
        self.scores.all.num_refused = round(self.refused)
        return self.scores

    def _cohort(self, size: int) -> _Cohort:
        policy, card = self.plan.replica.policy, self.plan.replica.card
        config: ControlConfig = policy.control
        info = ModelInfo(
            "fluid",
            card.full.layers_total,
            card.plans,
            ("ladder",),
            wer_ratios=tuple(card.wer_ratio(one.effective_layers) for one in card.plans),
        )
        levels = usable_levels(
            measured_levels(info),
            max_wer_increase=-1.0 if policy.name == "fixed" else policy.max_wer_increase,
        )
        damping = Damping(dwell_s=config.dwell_s)
        law = make_law(config, levels, info)
        return _Cohort(
            size, BudgetController(law, levels, setpoint_s=config.setpoint_s, damping=damping)
        )

    def _flow(self, now_s: float) -> None:
        """Let streams end, come, ask again and move."""
        staying = 1 - TICK_S / self.load.stream_s
        for one in self.cohorts:
            one.streams *= staying
        self.waiting *= staying
        again = min(self.waiting, self.waiting * TICK_S / max(TICK_S, self.plan.retry_s))
        self.waiting -= again
        self._arrive(self.load.rate(now_s) * TICK_S, again)
        self.scores.unserved_s += self.waiting * TICK_S
        if self.plan.moves:
            self._move()
        while self.coming and self.coming[0][0] <= now_s:
            self.cohorts.append(self._cohort(self.coming.pop(0)[1]))
        self.draining = [one for one in self.draining if one[0] > now_s]

    def _arrive(self, fresh: float, again: float = 0.0) -> None:
        left = self._fill(fresh + again)
        turned_away = min(fresh, left * fresh / max(1e-9, fresh + again))
        self.refused += turned_away
        if self.plan.retry_s:
            self.waiting += left
        else:
            self.scores.unserved_s += turned_away * self.load.stream_s

    def _fill(self, count: float) -> float:
        """Raise the emptiest first, as water finds its level; give what found no place."""
        order = sorted(self.cohorts, key=lambda one: one.streams)
        level, size = 0.0, 0
        for place, cohort in enumerate(order):
            size += cohort.size
            below = sum(one.streams * one.size for one in order[: place + 1])
            level = (below + count) / size
            if place + 1 == len(order) or level <= order[place + 1].streams:
                break
        level, left = min(level, float(self.places)), count
        for cohort in order:
            if cohort.streams < level:
                left -= (level - cohort.streams) * cohort.size
                cohort.streams = level
        return max(0.0, left)

    def _move(self) -> None:
        """Let replicas that owe depth lose what they have above the mean."""
        there = [one for one in self.cohorts if one.streams < self.places]
        for cohort in self.cohorts:
            if cohort.controller.level.drop <= 0:
                continue
            others = [one for one in there if one is not cohort]
            size = cohort.size + sum(one.size for one in others)
            mean = sum(one.streams * one.size for one in [cohort, *others]) / size
            excess = cohort.streams - mean
            if others and excess >= 1:
                leave = excess * TICK_S / LEAVES_WITHIN_S
                cohort.streams -= leave
                self.moves += leave * cohort.size
                self.waiting += self._fill(leave * cohort.size)

    def _book(self) -> None:
        spent = self.scores.all.encoded_s
        for one in self.cohorts:
            heard_s = one.streams * one.size * TICK_S
            self.scores.all.offered_s += heard_s
            spent[one.layers] = spent.get(one.layers, 0.0) + heard_s * self.table.speech_share
        self.scores.all.offered_s += self.waiting * TICK_S

    def _note(self, now_s: float, lags_s: Sequence[float]) -> None:
        full = self.plan.replica.card.full.effective_layers
        weights = np.array([one.streams * one.size for one in self.cohorts])
        streams = float(weights.sum())
        spent = float(weights @ np.array([one.layers for one in self.cohorts]))
        layers = spent / streams if streams else full
        self.scores.moments.append(
            Moment(
                now_s,
                _weighted_p95(lags_s, weights),
                round(layers, 4),
                round(1 - layers / full, 4),
                self.num_running + sum(size for _, size in self.draining),
                sum(size for _, size in self.coming),
                round(streams, 2),
                round(self.waiting, 2),
            )
        )

    def _scale(self, now_s: float) -> None:
        loads: list[ReplicaReport] = []
        for one in self.cohorts:
            report = ReplicaReport(
                weight=one.streams,
                depth_debt=one.controller.level.drop,
                lag_s=one.latency_s,
                open=one.streams < self.places - 1e-6,
            )
            loads += [report] * one.size
        num_coming = sum(size for _, size in self.coming)
        reading = FleetReading(
            now_s=now_s,
            num_replicas=len(loads) + num_coming,
            num_running=len(loads),
            loads=loads,
        )
        decision = decide(self.plan.rule, reading, self.state)
        self.state = decision.state
        more = decision.wanted - reading.num_replicas
        if more:
            self.scores.decisions.append((now_s, decision.wanted, decision.reason))
        if more > 0:
            self.coming.append((now_s + self.plan.start_s, more))
        elif more < 0:
            self._drain(now_s, -more)

    def _drain(self, now_s: float, count: int) -> None:
        self.draining.append((now_s + DRAINS_S, count))
        for cohort in sorted(self.cohorts, key=lambda one: one.streams):
            taken = min(count, cohort.size)
            cohort.size -= taken
            count -= taken
            self.moves += taken * cohort.streams
            self.waiting += taken * cohort.streams  # asks at once, and the others have room
        self.cohorts = [one for one in self.cohorts if one.size]
        self.waiting = self._fill(self.waiting)

    def _merge(self) -> None:
        kept: list[_Cohort] = []
        for cohort in self.cohorts:
            like = next((one for one in kept if _alike(one, cohort)), None)
            if like is None:
                kept.append(cohort)
                continue
            size = like.size + cohort.size
            streams = like.streams * like.size + cohort.streams * cohort.size
            like.size, like.streams = size, streams / size
        self.cohorts = kept


def _alike(one: _Cohort, other: _Cohort) -> bool:
    same = one.layers == other.layers and one.controller.strained == other.controller.strained
    return same and abs(one.streams - other.streams) < SAME_STREAMS


def _weighted_p95(values: Sequence[float], weights: np.ndarray) -> float | None:
    if not weights.sum():
        return None
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return round(float(np.array(values)[order][np.searchsorted(reached, 0.95 - 1e-9)]), 4)
