"""Live streams behind the seam: its inputs to the library's steps, its results back, and the gate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from model_store.audio import Listener, SpeechGate
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.depth import DepthPlan
from service.engine.base import (
    Cost,
    ListenInput,
    LiveInput,
    LiveOutput,
    LiveUtterance,
    Samples,
    Word,
)


class LiveModel(Protocol):
    """What an engine needs of a model whose streams run chunk by chunk."""

    @property
    def chunk_s(self) -> float: ...  # noqa: D102 as in ModelInfo
    def open_utterance(self) -> LiveUtterance:
        """Begin an utterance."""
        ...

    def step(
        self,
        requests: Sequence[LiveRequest[Any]],  # Any: what `open_utterance` gave, its own business
    ) -> Sequence[LiveResult]:
        """Run all streams that are due, whatever their plans."""
        ...


@dataclass(slots=True)
class GateListener:
    """The speech gate's state of one stream."""

    listener: Listener


def step_streams(model: LiveModel, inputs: Sequence[LiveInput]) -> list[LiveOutput]:
    """Run one step over all streams that are due; in the order given."""
    requests: list[LiveRequest[Any]] = [
        LiveRequest(
            one.utterance,
            one.samples,
            DepthPlan(one.plan.strides),
            one.decode,
            one.ends,
            one.second_pass,
            one.hotwords,
        )
        for one in inputs
    ]
    return [_output(result) for result in model.step(requests)]


def listen_to_streams(gate: SpeechGate, inputs: Sequence[ListenInput]) -> list[Samples]:
    """Ask the gate about all streams together."""
    listeners: list[Listener] = []
    for one in inputs:
        assert isinstance(one.listener, GateListener), "expected a listener of this engine"
        listeners.append(one.listener.listener)
    return gate.push_together(listeners, [one.samples for one in inputs])


def _output(result: LiveResult) -> LiveOutput:
    cost = result.cost
    return LiveOutput(
        tuple(Word(w.text, w.start_s, w.end_s, w.confidence) for w in result.words),
        result.stable_words,
        result.encoded_s,
        Cost(cost.flops, cost.encoder_flops, cost.full_flops, cost.encode_s, cost.decode_s),
        done=result.done,
    )
