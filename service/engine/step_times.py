"""How long an engine's live steps take on this machine, measured while it loads."""

import statistics
import time
from dataclasses import replace

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
SPEECH_SCALE = 2.4
"""Steps over many who speak take that much longer, lets expect: their decoder calls go side by side,
as many as the one who says most needs, and noise has hardly a word."""


def with_step_times(engine: Engine, info: ModelInfo) -> ModelInfo:
    """Add what steps take at the deepest and at the shallowest plan, run over noise.

    Whoever uses the times corrects them.

    Args:
        engine: has loaded the model, and serves streams.
        info: what it serves.
    """
    times = tuple(_measure(engine, info, plan) for plan in (info.offered[0], info.offered[-1]))
    return replace(info, step_times=times, speech_scale=SPEECH_SCALE)


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
