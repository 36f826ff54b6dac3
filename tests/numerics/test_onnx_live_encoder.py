"""The chunk-by-chunk encoder on ONNX Runtime against torch's forward under the same mask."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.backbones.moonshine import Moonshine
from model_store.checkpoint import load_checkpoint
from model_store.depth import STRIDES, DepthPlan, DepthSchedule
from model_store.errors import PlanInvalid
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.onnx.live_encoder import (
    PRIOR_POSITIONS,
    PRIOR_VARIANCE,
    Chunk,
    LiveEncoder,
    samples_of_frames,
)
from service.engine.onnx.live_state import EncoderState
from service.engine.onnx.processor import Numerics
from service.engine.onnx.recogniser import OnnxRecogniser
from tests.numerics.backbones import NUM_LAYERS
from tests.onnx_kit import Samples, windows, write_checkpoint

CHUNK = 24
TOLERANCE = 1e-4
FULL = DepthPlan.full(NUM_LAYERS)


class Models:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = write_checkpoint(root / "tiny", "moonshine-factorised")
        module = load_checkpoint(self.folder).model
        assert isinstance(module, Moonshine)
        self.module = module

    def live(self, numerics: Numerics = "float32", ahead: int = 0) -> LiveEncoder:
        checkpoint = open_checkpoint(str(self.folder))
        sizes = dataclasses.replace(checkpoint.sizes, look_ahead_frames=ahead)
        checkpoint = dataclasses.replace(checkpoint, sizes=sizes)
        loaded = OnnxRecogniser(checkpoint, self.root / "cache", numerics, num_threads=1)
        return LiveEncoder(loaded.encoder, CHUNK)

    @torch.inference_mode()
    def offline(self, samples: Samples, plans: Sequence[DepthPlan], ahead: int = 0) -> Samples:
        self.module.encoder.stack.look_ahead_frames = ahead
        schedule = DepthSchedule(tuple((CHUNK * i, plan) for i, plan in enumerate(plans)))
        encoded = self.module.encode(
            torch.from_numpy(samples)[None], torch.tensor([len(samples)]), schedule, CHUNK
        )
        return encoded.states_BTD[0].numpy()

    @torch.inference_mode()
    def normed(self, parts: Sequence[Samples]) -> Samples:
        return self.module.encoder.norm(torch.from_numpy(np.concatenate(parts))).numpy()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def live(models: Models) -> LiveEncoder:
    return models.live()


@pytest.fixture(scope="module")
def ahead(models: Models) -> LiveEncoder:
    return models.live(ahead=8)


def chunks_of(samples: Samples, num_frames: int) -> list[Samples]:
    """Cut an utterance into what each chunk needs; the last one may be short."""
    ends = [*range(CHUNK, num_frames, CHUNK), num_frames]
    bounds = [0, *(samples_of_frames(end) for end in ends)]
    return [samples[a:b] for a, b in itertools.pairwise(bounds)]


def utterance(num_frames: int, seed: int = 0) -> Samples:
    return windows(samples_of_frames(num_frames) + seed)[0][: samples_of_frames(num_frames)]


def run_alone(live: LiveEncoder, samples: Samples, plans: Sequence[DepthPlan]) -> list[Samples]:
    state = live.open()
    num_frames = (len(samples) - samples_of_frames(1)) // 384 + 1
    parts = chunks_of(samples, num_frames)
    assert len(parts) == len(plans)
    found = [
        live.step([Chunk(state, part, plan)])[0] for part, plan in zip(parts, plans, strict=True)
    ]
    return [*found, *live.finish([state])]


@settings(max_examples=25, deadline=None)
@given(
    num_frames=st.integers(1, 100),
    strides=st.lists(st.tuples(*[st.sampled_from(STRIDES)] * NUM_LAYERS), min_size=5, max_size=5),
)
def test_frames_are_those_of_the_whole_utterance_whatever_the_strides_do(
    models: Models, live: LiveEncoder, num_frames: int, strides: list[tuple[int, ...]]
) -> None:
    samples = utterance(num_frames)
    plans = [DepthPlan(one) for one in strides[: -(-num_frames // CHUNK)]]

    found = models.normed(run_alone(live, samples, plans))

    expected = models.offline(samples, plans)
    assert len(found) == num_frames
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(
    num_frames=st.integers(1, 100),
    strides=st.lists(st.tuples(*[st.sampled_from(STRIDES)] * NUM_LAYERS), min_size=5, max_size=5),
)
def test_with_a_look_ahead_they_are_those_under_its_mask(
    models: Models, ahead: LiveEncoder, num_frames: int, strides: list[tuple[int, ...]]
) -> None:
    samples = utterance(num_frames)
    plans = [DepthPlan(one) for one in strides[: -(-num_frames // CHUNK)]]

    found = models.normed(run_alone(ahead, samples, plans))

    expected = models.offline(samples, plans, ahead=8)
    assert len(found) == num_frames
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("plan", ["0,1,2", "1,0,0", "0,0,8"])
def test_with_a_look_ahead_skipped_layers_are_those_under_its_mask(
    models: Models, ahead: LiveEncoder, plan: str
) -> None:
    samples, plans = utterance(60), [DepthPlan.parse(plan)] * 3

    found = models.normed(run_alone(ahead, samples, plans))

    expected = models.offline(samples, plans, ahead=8)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("plan", ["0,1,2", "1,0,0", "0,0,8"])
def test_skipped_layers_are_those_of_the_whole_utterance(
    models: Models, live: LiveEncoder, plan: str
) -> None:
    samples, plans = utterance(60), [DepthPlan.parse(plan)] * 3

    found = models.normed(run_alone(live, samples, plans))

    expected = models.offline(samples, plans)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("ahead", [0, 8])
@pytest.mark.parametrize("numerics", ["float32", "int8"])
def test_a_stream_is_the_same_whoever_is_beside_it(
    models: Models, numerics: Numerics, ahead: int
) -> None:
    live = models.live(numerics, ahead)
    sets = [("1,1,1", 48, 0), ("4,2,8", 48, 5), ("0,1,2", 48, 9)]
    streams = [
        (DepthPlan.parse(p), utterance(n, seed) * 3**s) for s, (p, n, seed) in enumerate(sets)
    ]
    states = [live.open() for _ in streams]
    together: list[list[Samples]] = [[] for _ in streams]
    for step in range(2):
        due = [
            Chunk(state, chunks_of(samples, 48)[step], plan)
            for state, (plan, samples) in zip(states, streams, strict=True)
        ]
        for found, x_TD in zip(together, live.step(due), strict=True):
            found.append(x_TD)
    for found, x_TD in zip(together, live.finish(states), strict=True):
        found.append(x_TD)

    for (plan, samples), found in zip(streams, together, strict=True):
        alone = run_alone(live, samples, [plan] * 2)
        np.testing.assert_allclose(
            np.concatenate(found), np.concatenate(alone), rtol=TOLERANCE, atol=TOLERANCE
        )


def test_depth_given_up_is_memory_given_back(live: LiveEncoder) -> None:
    samples = utterance(240)

    def bytes_at(plan: str) -> int:
        state = live.open()
        for part in chunks_of(samples, 240):
            live.step([Chunk(state, part, DepthPlan.parse(plan))])
        return state.num_bytes

    sizes = [bytes_at(plan) for plan in ("1,1,1", "2,2,2", "4,4,4", "0,4,0")]

    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


def test_a_plan_that_skips_other_layers_is_refused(live: LiveEncoder) -> None:
    state: EncoderState = live.open()
    live.check(FULL, state)
    live.step([Chunk(state, utterance(24), FULL)])

    live.check(DepthPlan((8, 2, 1)), state)
    with pytest.raises(PlanInvalid, match="skips what the utterance's first one does"):
        live.check(DepthPlan((1, 0, 1)), state)
    with pytest.raises(PlanInvalid, match="expected 3 strides, got 2"):
        live.check(DepthPlan((1, 1)), state)


def test_the_prior_is_the_models() -> None:
    from model_store.backbones import moonshine

    assert (PRIOR_POSITIONS, PRIOR_VARIANCE) == (
        moonshine.PRIOR_POSITIONS,
        moonshine.PRIOR_VARIANCE,
    )
