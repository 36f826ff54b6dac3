"""How long an engine's live steps take on this machine, measured while it loads."""

import statistics
import time

import numpy as np

from service.engine.base import (
    SAMPLE_RATE_HZ,
    Engine,
    LiveInput,
    ModelInfo,
    PlanInUse,
    StepTime,
)

BATCH = 4
"""Streams of the larger step; the smaller one has one."""
NUM_STEPS = 3
"""The median of so many."""
LEVEL = 0.05


def measure_step_times(engine: Engine, info: ModelInfo) -> tuple[StepTime, StepTime]:
    """Run some steps over noise at the deepest and at the shallowest plan.

    Noise has few words, so that speech takes longer; whoever uses the times corrects them.

    Args:
        engine: has loaded the model, and serves streams.
        info: what it serves.
    """
    return (
        _measure(engine, info, info.offered[0]),
        _measure(engine, info, info.offered[-1]),
    )


def _measure(engine: Engine, info: ModelInfo, plan: PlanInUse) -> StepTime:
    one_s, many_s = (_step_s(engine, info, plan, batch) for batch in (1, BATCH))
    per_stream_s = min(many_s / BATCH, max(0.0, (many_s - one_s) / (BATCH - 1)))
    return StepTime(max(0.0, one_s - per_stream_s), per_stream_s)


def _step_s(engine: Engine, info: ModelInfo, plan: PlanInUse, batch: int) -> float:
    generator = np.random.default_rng(0)
    utterances = [engine.open_utterance() for _ in range(batch)]
    took: list[float] = []
    for _ in range(NUM_STEPS + 1):
        samples = generator.standard_normal(round(info.chunk_s * SAMPLE_RATE_HZ))
        chunk = (LEVEL * samples).astype(np.float32)
        began_s = time.perf_counter()
        engine.step([LiveInput(utterance, chunk, plan) for utterance in utterances])
        took.append(time.perf_counter() - began_s)
    return statistics.median(took[1:])  # the first meets its shapes for the first time
