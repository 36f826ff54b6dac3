"""The fake engine as the simulator sees it, to compare a simulated fleet with a real one.

The fake engine spends a fixed share of each second of speech at full depth, less where it is shallower,
whatever else is in the step; its transcripts, second passes and gate cost nothing.
"""

from benchmarks.simulator.model_card import ModelCard
from benchmarks.simulator.policies import Policy
from benchmarks.simulator.replica import ReplicaConfig
from benchmarks.simulator.service_times import Curve, ServiceTimes
from benchmarks.simulator.speech import Manner
from service.engine.fake import FakeEngine

CHUNK_S = 0.576
"""Seconds of a chunk of the simulated engine."""
WER = 0.1
"""Of the fake engine at full depth: it has none, so any will do."""


def fake_replica(realtime_factor: float, *, max_streams: int, manner: Manner) -> ReplicaConfig:
    """Describe a replica with the fake engine.

    Args:
        realtime_factor: seconds it spends on a second of speech at full depth.
        max_streams: places.
        manner: how people speak.
    """
    info = FakeEngine(realtime_factor=realtime_factor).load()
    ratios = dict(zip(info.offered, info.wer_ratios, strict=True))
    known = {plan: ratio for plan, ratio in ratios.items() if ratio is not None}
    flops = {plan.effective_layers: plan.effective_layers for plan in known}
    card = ModelCard(
        tuple(known), {plan.effective_layers: WER * r for plan, r in known.items()}, flops, flops
    )
    full = card.full.effective_layers
    times = ServiceTimes(
        chunk_s={
            layers: Curve.of({1: CHUNK_S * realtime_factor * layers / full}) for layers in flops
        },
        update_s=0.0,
        call_s=0.0,
        row_s=0.0,
        calls={0: (0,), 1: (0,)},
        second_pass_s={full: (0.0, 0.0)},
        gate_frame_s=0.0,
        speech_scale=info.speech_scale,
    )
    return ReplicaConfig(
        card=card,
        times=times,
        policy=Policy(name="brownout"),
        max_streams=max_streams,
        manner=manner,
    )
