"""Four ways to meet a load that grows: depth alone, replicas alone, both, and replicas for the peak.

| system | depth | replicas | a replica takes |
|---|---|---|---|
| `depth` | the controller's | for the load before a step, or for the mean of a day | what its door lets in |
| `replicas` | full | by the scaling law | the streams that keep their lag at full depth |
| `both` | the controller's | by the scaling law | what its door lets in |
| `peak` | full | for the peak, all the time | as `replicas` |
"""

import math
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from benchmarks.simulator.fleet_load import FleetLoad
from benchmarks.simulator.fleet_run import FleetPlan
from benchmarks.simulator.fluid_table import ReplicaTable
from benchmarks.simulator.policies import Policy
from benchmarks.simulator.replica import ReplicaConfig
from service.fleet.scaling import ScalingRule

SystemName = Literal["depth", "replicas", "both", "peak"]
SYSTEMS: tuple[SystemName, ...] = get_args(SystemName)
START_S = 30.0


def plan_of(
    system: SystemName,
    load: FleetLoad,
    config: ReplicaConfig,
    *,
    table: ReplicaTable,
    start_s: float = START_S,
    seed: int = 0,
) -> FleetPlan:
    """Say what a system does about a load.

    Args:
        system: its name.
        load: known as its operator knows it: its beginning, mean and peak.
        config: of a replica.
        table: what one does.
        start_s: from the decision to a replica that takes streams.
        seed: of all that is drawn.
    """
    fixed = system in {"replicas", "peak"}
    full = config.card.full.effective_layers
    in_time = table.calm.capacity()
    undimmed = table.strained[full].undimmed(config.policy.setpoint_s)
    carried = in_time if fixed else min(in_time, undimmed)
    usual = ScalingRule(replica_weight=carried)
    first = _replicas(load.streams(0.0), usual)
    most = 2 * _replicas(load.peak, usual) + 2
    if fixed:
        policy = Policy(name="fixed", early_refusal=False)
        config = replace(config, policy=policy, max_streams=math.floor(in_time))
    if system == "depth":
        first = most = first if load.name == "step" else _replicas(mean_streams(load), usual)
    elif system == "peak":
        first = most = _replicas(load.peak, usual)
    rule = ScalingRule(least=first, most=most, replica_weight=carried)
    return FleetPlan(replica=config, rule=rule, start_s=start_s, seed=seed)


def mean_streams(load: FleetLoad) -> float:
    """Give the mean over the load."""
    return float(np.mean([load.streams(at) for at in np.arange(0, load.seconds, 1.0)]))


def _replicas(streams: float, rule: ScalingRule) -> int:
    return max(1, math.ceil(streams / (rule.fill * rule.replica_weight) - 1e-9))
