from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from model_store.audio import FRAME_SAMPLES
from model_store.decoding.live_step import LiveCost, LiveRequest, LiveResult
from model_store.decoding.reading import DecodedWord
from model_store.depth import DepthPlan
from model_store.errors import PlanInvalid
from service import errors
from service.engine.base import Cost, ListenInput, LiveInput, LiveUtterance, PlanInUse, Word
from service.engine.torch_engine import LoadedModel, TorchEngine
from tests.decoder_kit import EchoModel, LoudGate, tone

HALF = PlanInUse((2, 2, 2, 2), 2.0, 4, 0.5)
RATE_HZ = 16_000


@dataclass
class Utterance:
    heard: int = 0
    skipped: int | None = None

    @property
    def state_bytes(self) -> int:
        return 4 * self.heard


@dataclass
class EchoStreams:
    """Counts the samples of each stream, and says as many words as it heard seconds."""

    seen: list[LiveRequest[Any]] = field(default_factory=list[LiveRequest[Any]])
    chunk_s: float = 0.5

    def open_utterance(self) -> Utterance:
        return Utterance()

    def step(self, requests: Sequence[LiveRequest[Any]]) -> list[LiveResult]:
        self.seen += requests
        return [self.result(request) for request in requests]

    def result(self, request: LiveRequest[Any]) -> LiveResult:
        utterance: Utterance = request.utterance
        skipped = request.plan.strides.count(0)
        if utterance.skipped not in {None, skipped}:
            raise PlanInvalid("expected a plan that skips what the first one does, got another")
        utterance.skipped = skipped
        utterance.heard += len(request.samples)
        seconds = utterance.heard // RATE_HZ
        words = [DecodedWord("tone", i, i + 1.0, 0.8) for i in range(seconds)]
        stable = seconds if request.ends else max(0, seconds - 1)
        cost = LiveCost(3, 2, 4, 0.1, 0.2)
        return LiveResult(words, stable, utterance.heard / RATE_HZ, cost)


def engine(streams: EchoStreams | None) -> TorchEngine:
    def open_live(model: LoadedModel) -> EchoStreams | None:
        assert model.name == "echo"
        return streams

    made = TorchEngine(EchoModel, LoudGate, open_live)
    made.load()
    return made


def fed(utterance: LiveUtterance, seconds: float, plan: PlanInUse = HALF, **how: Any) -> LiveInput:
    return LiveInput(utterance, tone(seconds, rate_hz=RATE_HZ), plan, **how)


def test_loading_says_how_long_a_chunk_is_and_warms_streams_up() -> None:
    streams = EchoStreams()

    info = TorchEngine(EchoModel, LoudGate, lambda _: streams).load()

    assert info.chunk_s == 0.5
    assert streams.seen[0].ends
    assert len(info.step_times) == 2, "the deepest and the shallowest plan"


def test_a_step_gives_each_stream_its_own_words_in_the_order_given() -> None:
    made = engine(EchoStreams())
    long, short = made.open_utterance(), made.open_utterance()

    first, second = made.step([fed(long, 3.0), fed(short, 1.0, ends=True)])

    assert [word.text for word in first.words] == ["tone"] * 3
    assert (first.stable_words, first.encoded_s) == (2, 3.0)
    assert second.words == (Word("tone", 0, 1.0, 0.8),)
    assert second.stable_words == 1
    assert first.cost == Cost(3, 2, 4, 0.1, 0.2)


def test_a_step_passes_on_what_it_was_asked() -> None:
    streams = EchoStreams()
    made = engine(streams)
    utterance = made.open_utterance()
    streams.seen.clear()

    made.step(
        [
            fed(utterance, 1.0, decode=False),
        ]
    )
    made.step([fed(utterance, 0.5, ends=True, second_pass=True)])

    first, last = streams.seen
    assert first.plan == DepthPlan((2, 2, 2, 2))
    assert (first.decode, first.ends, first.second_pass) == (False, False, False)
    assert (last.decode, last.ends, last.second_pass) == (True, True, True)
    assert utterance.state_bytes == 4 * 24_000


def test_a_plan_that_cannot_go_on_is_refused_in_our_terms() -> None:
    made = engine(EchoStreams())
    utterance = made.open_utterance()
    made.step([fed(utterance, 1.0)])

    with pytest.raises(errors.PlanInvalid, match="skips what the first one does"):
        made.step([fed(utterance, 1.0, PlanInUse((1, 0, 1, 1), 3.0, 4, 0.25))])


def test_a_model_whose_streams_cannot_run_serves_files_alone() -> None:
    made = TorchEngine(EchoModel, LoudGate)

    info = made.load()

    assert info.chunk_s == 0
    with pytest.raises(errors.ModelUnusable, match="a model that streams, got 'echo'"):
        made.open_utterance()


def test_listening_gives_each_stream_the_frames_it_completes() -> None:
    made = engine(None)
    loud, quiet = made.open_listener(), made.open_listener()
    silence = np.zeros(FRAME_SAMPLES + 100, np.float32)

    first = made.listen(
        [ListenInput(loud, tone(0.1, rate_hz=RATE_HZ)), ListenInput(quiet, silence)]
    )
    second = made.listen([ListenInput(quiet, silence[: FRAME_SAMPLES - 100])])

    assert [found.tolist() for found in first] == [[1.0, 1.0, 1.0], [0.0]]
    assert [found.tolist() for found in second] == [[0.0]]


def test_nobody_listens_before_the_gate_is_there() -> None:
    with pytest.raises(AssertionError, match="load comes first"):
        TorchEngine(EchoModel, LoudGate).open_listener()
