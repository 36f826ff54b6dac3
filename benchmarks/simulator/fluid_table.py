"""What a replica does at a number of streams and a depth, from the detailed mode: the fluid's table.

Each case is a constant load on one replica at a fixed depth. `calm` is full depth with everything that
a service does where there is room; `strained` is what is left while depth is owed: no second passes,
partials as rare as they may be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.simulator.fleet_run import FleetPlan, simulate_fleet
from benchmarks.simulator.policies import Policy
from benchmarks.simulator.replica import ReplicaConfig
from benchmarks.simulator.service_times import Curve
from benchmarks.simulator.traces import Arrival, Trace
from service.fleet.scaling import ScalingRule
from service.scheduling.live_load import MAX_PARTIAL_INTERVAL_S
from service.streaming.measures import LIMIT_S

WARM_S = 10.0
RAMP_EVERY_S = 0.5
"""Between two streams that ask at a door, to see how many it lets in."""


@dataclass(frozen=True, slots=True)
class Case:
    """Curves over the number of streams: what the controller measures, captions' lag, the engine."""

    latency_s: Curve
    lag_p95_s: Curve
    busy: Curve

    def capacity(self) -> float:
        """Give the most streams whose p95 of lag is within its limit."""
        return _most(self.lag_p95_s, LIMIT_S["lag"])

    def undimmed(self, setpoint_s: float) -> float:
        """Give the most streams whose latency is within a controller's set point."""
        return _most(self.latency_s, setpoint_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaTable:
    """A replica as the fluid knows it.

    Args:
        calm: at full depth.
        strained: by effective layers.
        speech_share: seconds that are encoded of a second of a stream.
        places: streams that the door lets in, by the policy's name.
    """

    calm: Case
    strained: Mapping[float, Case]
    speech_share: float
    places: Mapping[str, int]

    def case(self, layers: float, *, strained: bool, full_layers: float) -> Case:
        """Give the curves of a depth, or of the nearest one that was run."""
        if not strained and layers == full_layers:
            return self.calm
        return self.strained[min(self.strained, key=lambda at: abs(at - layers))]


def tabulate(
    config: ReplicaConfig, *, streams: Sequence[int], seconds: float, seed: int
) -> ReplicaTable:
    """Run all cases.

    Args:
        config: of the replica; its policy is replaced.
        streams: numbers of them.
        seconds: of each case.
        seed: of what is drawn.
    """
    usual = [
        plan
        for plan in config.card.plans
        if config.card.wer_ratio(plan.effective_layers) <= 1 + config.policy.max_wer_increase
    ]
    shares: list[float] = []

    def case(drop: float, *, strained: bool) -> Case:
        policy = Policy(
            name="fixed",
            drop=drop,
            partial_interval_s=MAX_PARTIAL_INTERVAL_S if strained else 0.0,
            early_refusal=False,
        )
        alone = replace(
            config, policy=policy, max_streams=10_000, two_pass=config.two_pass and not strained
        )
        rows = {count: _row(alone, count, seconds, seed) for count in streams}
        shares.extend(share for *_, share in rows.values())
        return Case(*(Curve.of({n: row[at] for n, row in rows.items()}) for at in range(3)))

    return ReplicaTable(
        calm=case(0.0, strained=False),
        strained={plan.effective_layers: case(plan.drop, strained=True) for plan in usual},
        speech_share=float(np.mean(shares)),
        places={
            name: _let_in(
                replace(config, policy=replace(config.policy, name=name)), 2 * max(streams), seed
            )
            for name in ("fixed", "brownout")
        },
    )


def _most(curve: Curve, limit: float) -> float:
    streams = [float(one) for one in np.arange(1, curve.places[-1] + 0.25, 0.25)]
    return max((one for one in streams if curve.at(one) <= limit), default=streams[0])


def _row(
    config: ReplicaConfig, count: int, seconds: float, seed: int
) -> tuple[float, float, float, float]:
    trace = Trace(
        tuple(Arrival(place / count, seconds, seed + place) for place in range(count)),
        (0.0, seconds),
        seconds,
    )
    found = simulate_fleet(trace, _alone(config, seed))
    settled = [one for one in found.all.samples if one.at_s > WARM_S and one.num_streams == count]
    lags_s = found.all.lag_s[round(len(found.all.lag_s) * WARM_S / seconds) :]
    return (
        float(np.mean(found.latencies_s[round(WARM_S) : round(seconds)])),
        float(np.percentile(lags_s, 95)),
        float(np.mean([one.busy for one in settled])),
        sum(found.all.encoded_s.values()) / found.all.offered_s,
    )


def _let_in(config: ReplicaConfig, count: int, seed: int) -> int:
    seconds = RAMP_EVERY_S * count + WARM_S
    arrivals = (
        Arrival(RAMP_EVERY_S * place, seconds - RAMP_EVERY_S * place, seed + place)
        for place in range(count)
    )
    trace = Trace(tuple(arrivals), (0.0, seconds), seconds)
    found = simulate_fleet(trace, _alone(config, seed))
    late = [one.streams for one in found.moments if seconds - WARM_S < one.at_s <= seconds - 1]
    return round(float(np.mean(late)))


def _alone(config: ReplicaConfig, seed: int) -> FleetPlan:
    return FleetPlan(
        replica=config, rule=ScalingRule(least=1, most=1), moves=False, retry_s=0.0, seed=seed
    )
