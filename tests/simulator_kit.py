"""A small card and made-up service times, for tests of the simulator."""

from benchmarks.simulator.model_card import ModelCard
from benchmarks.simulator.policies import Policy, PolicyName
from benchmarks.simulator.replica import ReplicaConfig
from benchmarks.simulator.service_times import Curve, ServiceTimes
from benchmarks.simulator.simulation import FleetConfig
from service.engine.base import PlanInUse

LAYERS = (8.0, 4.0, 2.0)


def card() -> ModelCard:
    plans = tuple(
        PlanInUse((round(8 / layers),) * 8, layers, 8, 1 - layers / 8) for layers in LAYERS
    )
    flops = {layers: 1e9 * layers for layers in LAYERS}
    return ModelCard(plans, {8.0: 0.1, 4.0: 0.12, 2.0: 0.3}, flops, flops)


def times(chunk_s: float = 0.02, background: float = 0.0) -> ServiceTimes:
    """Chunks at full depth take so long and at half depth half of it; decoding takes little."""
    return ServiceTimes(
        chunk_s={layers: Curve.of({1: chunk_s * layers / 8}) for layers in LAYERS},
        update_s=0.001,
        call_s=0.0005,
        row_s=0.0001,
        calls={0: (4, 6), 1: (1, 3)},
        second_pass_s={8.0: (0.01, 0.02), 2.0: (0.01, 0.01)},
        gate_frame_s=0.0001,
        background=background,
    )


def fleet(
    chunk_s: float = 0.02,
    *,
    policy: PolicyName = "fixed",
    replicas: int = 1,
    max_streams: int = 1000,
    drop: float = 0.0,
    seed: int = 0,
    early_refusal: bool = False,
) -> FleetConfig:
    shared = ReplicaConfig(
        card=card(),
        times=times(chunk_s),
        policy=Policy(name=policy, drop=drop, early_refusal=early_refusal),
        max_streams=max_streams,
    )
    return FleetConfig(replica=shared, replicas=replicas, seed=seed)
