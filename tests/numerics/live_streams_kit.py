"""Streams of a tiny model on both runtimes, by script."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from hypothesis import strategies as st

from model_store.decoding.live_runner import LiveRunner
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.depth import DepthPlan
from model_store.registry import Recogniser
from model_store.registry.live import LiveOptions, LiveRecogniser
from model_store.text.agreement import CommitRule
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.onnx.live import create_live_runner
from service.engine.onnx.processor import Numerics
from service.engine.onnx.recogniser import OnnxRecogniser
from tests.live_kit import Samples, recogniser, speech
from tests.numerics.backbones import NUM_LAYERS

CHUNK = 24 * 384
FULL = DepthPlan.full(NUM_LAYERS)
STRIDES = st.tuples(*[st.sampled_from([1, 2, 4, 8])] * NUM_LAYERS)
SKIPS = st.tuples(*[st.sampled_from([0, 1, 2, 4])] * NUM_LAYERS).filter(any)
EAGER = CommitRule(method="attention", edge_s=-1e6, least_s=0, most_tentative=6)
CAREFUL = CommitRule(method="attention", edge_s=0.1, least_s=0, most_tentative=9)
AGREEING = CommitRule(agreeing=2, least_s=0, most_tentative=12, unheard_s=0.3)
RULES = st.sampled_from([EAGER, CAREFUL, AGREEING])


class Runner(Protocol):
    def open_utterance(self) -> Any: ...
    def step(self, requests: Sequence[LiveRequest[Any]]) -> list[LiveResult]: ...


class Models:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.torch: Recogniser = recogniser(root / "tiny", "moonshine-factorised", int8=True)
        self._loaded: dict[Numerics, OnnxRecogniser] = {}

    def onnx(self, numerics: Numerics = "float32") -> OnnxRecogniser:
        if numerics not in self._loaded:
            checkpoint = open_checkpoint(str(self.root / "tiny"))
            self._loaded[numerics] = OnnxRecogniser(checkpoint, self.root / "cache", numerics, 1)
        return self._loaded[numerics]

    def runner(
        self, rule: CommitRule, numerics: Numerics = "float32", *, reuse: bool = True
    ) -> LiveRunner[Any, Any]:
        return create_live_runner(self.onnx(numerics), rule=rule, reuse=reuse)

    def expected(self, rule: CommitRule, *, reuse: bool = True) -> LiveRecogniser:
        options = LiveOptions(rule=rule, reuse=reuse, cache_dtype=torch.float32)
        return LiveRecogniser(self.torch, options)


@dataclass(frozen=True)
class Script:
    """What a stream sends: its samples in pieces, each at a plan."""

    samples: Samples
    cuts: tuple[int, ...]
    plans: tuple[DepthPlan, ...]
    second_pass: bool = False

    def turns(self) -> list[tuple[Samples, DepthPlan, bool]]:
        length = len(self.samples)
        bounds = sorted({cut % length for cut in self.cuts} - {0} | {length})
        starts = [0, *bounds[:-1]]
        return [
            (self.samples[start:end], self.plans[turn % len(self.plans)], end == length)
            for turn, (start, end) in enumerate(zip(starts, bounds, strict=True))
        ]


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    length = draw(st.integers(300, 40_000))
    several = draw(st.booleans())
    plans = draw(
        st.lists(STRIDES, min_size=1, max_size=3)
        if several
        else st.lists(SKIPS, min_size=1, max_size=1)
    )
    return Script(
        speech(length, draw(st.integers(0, 50))),
        tuple(draw(st.lists(st.integers(0, 40_000), max_size=5))),
        tuple(map(DepthPlan, plans)),
        second_pass=draw(st.booleans()),
    )


def run(runner: Runner, streams: Sequence[Script]) -> list[list[LiveResult]]:
    """Run streams side by side, a turn of each in every step, until all have ended."""
    told: list[list[LiveResult]] = [[] for _ in streams]
    turns = [stream.turns() for stream in streams]
    utterances = [runner.open_utterance() for _ in streams]
    for turn in range(max(map(len, turns))):
        due = [i for i, of_stream in enumerate(turns) if turn < len(of_stream)]
        requests: list[LiveRequest[Any]] = []
        for i in due:
            samples, plan, ends = turns[i][turn]
            second_pass = ends and streams[i].second_pass
            requests.append(
                LiveRequest(utterances[i], samples, plan, ends=ends, second_pass=second_pass)
            )
        for i, result in zip(due, runner.step(requests), strict=True):
            told[i].append(result)
    return told


def compare(found: Sequence[LiveResult], expected: Sequence[LiveResult]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert [word.text for word in one.words] == [word.text for word in other.words]
        assert (one.stable_words, one.encoded_s) == (other.stable_words, other.encoded_s)
        assert (one.cost.flops, one.cost.encoder_flops, one.cost.full_flops) == (
            other.cost.flops,
            other.cost.encoder_flops,
            other.cost.full_flops,
        )
        for word, as_torch in zip(one.words, other.words, strict=True):
            assert word.start_s == pytest.approx(as_torch.start_s, abs=1e-3)
            assert word.end_s == pytest.approx(as_torch.end_s, abs=1e-3)
            assert word.confidence == pytest.approx(as_torch.confidence, abs=1e-3)
