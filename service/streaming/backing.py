"""What all streams share."""

from dataclasses import dataclass

from service.engine.base import Engine, ModelInfo
from service.scheduling.depth import DropDecider
from service.streaming.measures import StreamMeasures


@dataclass(frozen=True, slots=True)
class Backing:
    """Handed to every session.

    Args:
        engine: opens their utterances and listeners.
        info: what it serves.
        decide: what `auto` means.
        measures: told what happens.
        two_pass: whether a final is a second pass over its utterance, where there is room for it.
    """

    engine: Engine
    info: ModelInfo
    decide: DropDecider
    measures: StreamMeasures
    two_pass: bool = False
