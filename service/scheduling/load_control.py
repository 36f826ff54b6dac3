"""Where load is measured and answered: the controller's wiring to rounds, streams and metrics.

rounds --> LoadWindow --> BudgetController --> what `auto` means at a stream's next chunk
|              '--> LiveLoad: second passes and partials, given up before depth
'------------------> Door: streams refused before those that are in suffer
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from service.engine.base import ModelInfo, PlanInUse
from service.metrics import Metrics
from service.scheduling.brownout import Brownout
from service.scheduling.clock import Clock
from service.scheduling.controller import (
    BudgetController,
    Damping,
    Decision,
    DimmerLaw,
    FixedDepth,
    Reading,
)
from service.scheduling.door import Door
from service.scheduling.levels import DepthLevel, usable_levels
from service.scheduling.live_load import LiveLoad
from service.scheduling.load_window import WINDOW_S, LoadWindow, RoundSample
from service.scheduling.slack import Slack, StepProfile

TICK_S = 0.25
"""Of the controller, idle or not."""
PATIENT_FILES = 4
"""Steps of files that wait for the engine before that counts as much as a latency at the set point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """How load is answered.

    Args:
        law: who turns the dimmer.
        setpoint_s: the 95th percentile of chunk latency to keep to.
        pole: of the brownout law, in [0, 1).
        dwell_s: least time between two falls.
        max_wer_increase: word errors accepted beyond those at full depth, relative.
        min_layers: effective layers that are never gone below.
        partial_interval_s: partials that far apart whatever the load; 0 lets the load say.
        early_refusal: whether streams are refused that even the least depth could not carry.
    """

    law: Literal["brownout", "slack", "fixed"] = "brownout"
    setpoint_s: float = 0.4
    pole: float = 0.9
    dwell_s: float = 1.0
    max_wer_increase: float = 0.5
    min_layers: float = 0.0
    partial_interval_s: float = 0.0
    early_refusal: bool = True


class StreamDial(Protocol):
    """The dial of a stream as this sees it."""

    @property
    def source(self) -> str:
        """Who turns it: `auto` or `request`."""
        ...

    @property
    def wanted(self) -> PlanInUse:
        """The plan that a chunk would have now."""
        ...


class LoadControl:
    """Measures the load and says what is given up for it.

    Args:
        metrics: told what is measured and decided.
        clock: of the rounds.
        config: how load is answered.
    """

    def __init__(self, metrics: Metrics, clock: Clock, config: ControlConfig | None = None) -> None:
        self._metrics = metrics
        self._clock = clock
        self._config = config or ControlConfig(law="fixed")
        self._budget: BudgetController | None = None
        self._wer_ratios: dict[tuple[int, ...], float] = {}
        self._submitted_s: float | None = None
        self._door: Door | None = None
        self.num_places_taken: Callable[[], int] = lambda: 0
        """How many streams speak; whoever counts them says so."""
        self.load = LiveLoad(self._config.partial_interval_s)
        self.window = LoadWindow()

    @property
    def budget(self) -> BudgetController | None:
        """The controller, once it is known what is served."""
        return self._budget

    def loaded(self, info: ModelInfo) -> None:
        """Learn which depths there are."""
        config, measured = self._config, measured_levels(info)
        self._wer_ratios = {
            plan.strides: ratio
            for plan, ratio in zip(info.offered, info.wer_ratios, strict=False)
            if ratio is not None
        }
        levels = usable_levels(
            measured,
            # A fixed depth has nothing to fall to, and its floor is where it stands.
            max_wer_increase=-1.0 if config.law == "fixed" else config.max_wer_increase,
            min_layers=config.min_layers,
        )
        profiles = step_profiles(info, levels)
        levels = with_costs(levels, profiles)
        damping = Damping(dwell_s=config.dwell_s)
        law = make_law(config, levels, info)
        self._budget = BudgetController(law, levels, setpoint_s=config.setpoint_s, damping=damping)
        if info.chunk_s:
            self._door = Door(
                profiles,
                setpoint_s=config.setpoint_s,
                chunk_s=info.chunk_s,
                window_s=WINDOW_S,
                speech_scale=info.speech_scale,
            )
        self._metrics.controller.setpoint.set(config.setpoint_s)
        self._metrics.controller.floor_layers.set(levels[-1].layers)
        self.tick()

    def decide(self) -> float:
        """Give the drop that `auto` means now."""
        return self._budget.level.drop if self._budget else 0.0

    def refuses_streams(self, num_kept: int = 0) -> bool:
        """Say whether one more stream would be one too many, even at the least depth.

        Args:
            num_kept: streams for which room has to be left behind it.
        """
        if self._door is None or not self._config.early_refusal:
            return False
        return self._door.refuses(self.num_places_taken(), num_kept)

    def refuses_files(self) -> bool:
        """Say whether streams suffer already, so that files have to wait."""
        return self._config.early_refusal and self._door is not None and self._door.late

    @property
    def round_waits(self) -> bool:
        """Whether a round is with the engine's thread, or in its queue."""
        return self._submitted_s is not None

    def submitted(self) -> None:
        """Learn that a round waits for the engine."""
        self._submitted_s = self._clock()

    def done(self, sample: RoundSample | None = None) -> None:
        """Learn that the round is over, and what it took, unless it failed."""
        submitted_s, self._submitted_s = self._submitted_s, None
        if sample is not None and submitted_s is not None:
            self.window.add(sample)
            self.load.took(sample.ended_s - submitted_s)

    def tick(self, dials: Sequence[StreamDial] = (), num_waiting_files: int = 0) -> None:
        """Decide, and say in the metrics what streams run at."""
        if self._budget is None:
            return
        budget, now_s = self._budget, self._clock()
        waiting_s = 0.0
        if self._submitted_s is not None and self._submitted_s >= budget.changed_at_s:
            waiting_s = now_s - self._submitted_s
        files_s = budget.setpoint_s * num_waiting_files / PATIENT_FILES
        reading = self.window.read(now_s, since_s=budget.changed_at_s, waiting_s=waiting_s)
        if self._door is not None:
            self._door.tick(
                now_s,
                reading.latency_s,
                self.window.rounds(now_s),
                at_floor=budget.at_floor and budget.is_load(reading),
                num_taken=self.num_places_taken(),
            )
        reading = replace(
            reading,
            latency_s=max(reading.latency_s, files_s),
            busy_ratio=1.0 if num_waiting_files else reading.busy_ratio,
        )
        in_burst = self._door is not None and self._door.in_burst
        decision = self._foresee(budget, reading) or budget.tick(
            reading, in_burst=in_burst, deepest=self._deepest_carried(dials)
        )
        self.load.strained = budget.strained
        series = self._metrics.controller
        if decision is not None:
            series.decisions.labels(
                f"{decision.from_layers:g}", f"{decision.to_layers:g}", decision.reason
            ).inc()
        series.measured.set(reading.latency_s)
        series.dimmer.set(budget.dimmer)
        self._report(budget.level, dials, files_wait=num_waiting_files > 0)

    def _foresee(self, budget: BudgetController, reading: Reading) -> Decision | None:
        """Answer a burst before it is measured; the slack law looks ahead by itself."""
        if self._door is None or self._config.law != "brownout":
            return None
        return budget.foresee(self._door.foreseen(), reading)

    def _deepest_carried(self, dials: Sequence[StreamDial]) -> int:
        if self._door is None:
            return 0
        asked = [dial.wanted.effective_layers for dial in dials if dial.source == "request"]
        return self._door.deepest_carried(asked, len(dials))

    def _report(self, level: DepthLevel, dials: Sequence[StreamDial], *, files_wait: bool) -> None:
        drops: dict[str, list[float]] = {"auto": [], "request": []}
        ratios: list[float] = []
        for dial in dials:
            plan = dial.wanted
            drops[dial.source].append(plan.drop)
            if plan.strides in self._wer_ratios:
                ratios.append(self._wer_ratios[plan.strides])
        if files_wait and not drops["auto"]:
            drops["auto"].append(level.drop)  # replicas scale on it, whoever makes the load
        for source, values in drops.items():
            self._metrics.requests.drop.labels(source).set(_mean(values, 0.0))
        self._metrics.requests.depth_layers.set(level.layers)
        self._metrics.controller.estimated_wer.set(_mean(ratios, 1.0))


def measured_levels(info: ModelInfo) -> tuple[DepthLevel, ...]:
    """Give the depths whose word error rate was measured, deepest first; full depth always."""
    ratios = info.wer_ratios or (None,) * len(info.offered)
    return tuple(
        DepthLevel(plan.effective_layers, plan.drop, 1.0 if ratio is None else ratio)
        for plan, ratio in zip(info.offered, ratios, strict=True)
        if ratio is not None or plan is info.offered[0]
    )


def make_law(config: ControlConfig, levels: Sequence[DepthLevel], info: ModelInfo) -> DimmerLaw:
    """Build the law that a configuration names.

    The slack law needs a table; where none was measured, because nothing streams, nothing turns.
    """
    if config.law == "brownout":
        return Brownout(setpoint_s=config.setpoint_s, floor=levels[-1].dimmer, pole=config.pole)
    if config.law == "slack" and info.step_times:
        return Slack(
            step_profiles(info, levels),
            layers_total=info.layers_total,
            setpoint_s=config.setpoint_s,
            chunk_s=info.chunk_s,
        )
    return FixedDepth()


def step_profiles(info: ModelInfo, levels: Sequence[DepthLevel]) -> tuple[StepProfile, ...]:
    """Give a profile for each level, between the two that were measured by effective layers.

    Empty where none was.
    """
    if not info.step_times:
        return ()
    deep, shallow = info.step_times
    deepest, shallowest = info.offered[0].effective_layers, info.offered[-1].effective_layers

    def profile(layers: float) -> StepProfile:
        share = (layers - shallowest) / (deepest - shallowest) if deepest > shallowest else 1.0
        return StepProfile(
            layers,
            shallow.fixed_s + share * (deep.fixed_s - shallow.fixed_s),
            shallow.per_stream_s + share * (deep.per_stream_s - shallow.per_stream_s),
        )

    return tuple(profile(level.layers) for level in levels)


def with_costs(
    levels: Sequence[DepthLevel], profiles: Sequence[StepProfile]
) -> tuple[DepthLevel, ...]:
    """Add what a chunk costs at each level, by its profile; as they are where none was measured."""
    if not profiles or not profiles[0].per_stream_s:
        return tuple(levels)
    full_s = profiles[0].per_stream_s
    return tuple(
        replace(level, cost=profile.per_stream_s / full_s)
        for level, profile in zip(levels, profiles, strict=True)
    )


def _mean(values: Sequence[float], empty: float) -> float:
    return sum(values) / len(values) if values else empty
