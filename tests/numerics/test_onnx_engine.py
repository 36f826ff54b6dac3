"""The engine on ONNX Runtime against the model on torch, on tiny random checkpoints."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.checkpoint import load_checkpoint
from model_store.decoding.greedy import decode_greedy
from model_store.depth import STRIDES, DepthPlan, DepthSchedule
from model_store.errors import PlanInvalid
from model_store.registry import Recogniser
from model_store.registry.sizes import model_sizes
from service.engine.onnx.build import ARRAYS, ensure_built
from service.engine.onnx.checkpoint import FRAME_SAMPLES, RECEPTIVE_SAMPLES, open_checkpoint
from service.engine.onnx.decoder import Decoder
from service.engine.onnx.processor import Numerics
from service.engine.onnx.recogniser import OnnxRecogniser
from tests.numerics.backbones import NUM_LAYERS
from tests.onnx_kit import HEADS, Samples, windows, write_checkpoint

ROOT = Path(__file__).parents[2]
FULL = DepthPlan.full(NUM_LAYERS)
PLANS = ("1,1,1", "2,2,2", "1,2,4", "8,1,4", "0,1,2", "1,0,0")
TOLERANCE = 1e-4
"""Float32 against float32: only the order of additions differs."""

LARGEST_INT8_ERROR = {"int8": 0.05, "int8-reduced": 0.1}
"""Root mean square error of the encoder's states, which have unit variance; bytes have 1 % steps."""

BACKBONES = ("moonshine", "moonshine-factorised")


class Models:
    """One tiny checkpoint on both runtimes."""

    def __init__(self, root: Path, backbone: str) -> None:
        self.root = root
        self.folder = write_checkpoint(root / backbone, backbone)
        self.torch = Recogniser(backbone, load_checkpoint(self.folder), "float32")

    def onnx(self, numerics: Numerics = "float32") -> OnnxRecogniser:
        return OnnxRecogniser(
            open_checkpoint(str(self.folder)), self.root / "cache", numerics, num_threads=1
        )

    @torch.inference_mode()
    def states(self, samples: Samples, plan: DepthPlan) -> Samples:
        encoded = self.torch.module.encode(
            torch.from_numpy(samples)[None],
            torch.tensor([len(samples)]),
            DepthSchedule.constant(plan),
        )
        return encoded.states_BTD[0].numpy()


@pytest.fixture(scope="module", params=BACKBONES)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture(scope="module")
def exact(models: Models) -> OnnxRecogniser:
    return models.onnx()


@pytest.mark.parametrize("plan", PLANS)
def test_states_are_those_of_torch_at_any_plan(
    models: Models, exact: OnnxRecogniser, plan: str
) -> None:
    chosen = DepthPlan.parse(plan)
    utterances = windows(500, 895, 9_001, 24_000)

    found = exact.encoder.encode(utterances, chosen)

    for samples, memory in zip(utterances, found, strict=True):
        np.testing.assert_allclose(
            memory.states_TD, models.states(samples, chosen), rtol=TOLERANCE, atol=TOLERANCE
        )


@settings(max_examples=20, deadline=None)
@given(
    strides=st.tuples(*[st.sampled_from((0, *STRIDES))] * NUM_LAYERS).filter(any),
    length=st.integers(1, 60_000),
)
def test_any_plan_over_any_length_is_torchs(
    models: Models, exact: OnnxRecogniser, strides: tuple[int, ...], length: int
) -> None:
    plan = DepthPlan(strides)
    (samples,) = windows(length)

    (memory,) = exact.encoder.encode([samples], plan)

    np.testing.assert_allclose(
        memory.states_TD, models.states(samples, plan), rtol=TOLERANCE, atol=TOLERANCE
    )


@pytest.mark.parametrize("plan", ["1,1,1", "1,4,2", "0,1,1"])
def test_transcripts_are_those_of_torch(models: Models, exact: OnnxRecogniser, plan: str) -> None:
    chosen = DepthPlan.parse(plan)
    batch = windows(7_000, 16_000, 30_000)

    expected = models.torch.transcribe_windows(batch, chosen)
    found = exact.transcribe_windows(batch, chosen)

    for one, other in zip(found, expected, strict=True):
        assert (one.text, one.tokens) == (other.text, other.tokens)
        assert (one.flops, one.encoder_flops, one.full_flops) == (
            other.flops,
            other.encoder_flops,
            other.full_flops,
        )
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)
        assert [word.text for word in one.words] == [word.text for word in other.words]
        for word, expected_word in zip(one.words, other.words, strict=True):
            assert word.end_s == pytest.approx(expected_word.end_s)
            assert word.confidence == pytest.approx(expected_word.confidence, abs=1e-4)


@pytest.mark.parametrize("numerics", ["int8", "int8-reduced"])
def test_rounding_to_bytes_stays_within_its_tolerance(models: Models, numerics: Numerics) -> None:
    rounded = models.onnx(numerics)
    (samples,) = windows(40_000)

    for plan in (FULL, DepthPlan.parse("1,2,4")):
        (memory,) = rounded.encoder.encode([samples], plan)

        error = memory.states_TD - models.states(samples, plan)
        assert 0 < np.sqrt(np.square(error).mean()) < LARGEST_INT8_ERROR[numerics]


@pytest.mark.parametrize("numerics", ["int8", "float32"])
def test_a_window_says_the_same_whoever_is_beside_it(models: Models, numerics: Numerics) -> None:
    model = models.onnx(numerics)
    quiet, loud, long = windows(9_000, 16_000, 50_000)
    quiet, loud = quiet * 0.01, loud * 9

    together = model.transcribe_windows([quiet, loud, long], FULL)

    for samples, found in zip((quiet, loud, long), together, strict=True):
        (alone,) = model.transcribe_windows([samples], FULL)
        assert (found.text, found.flops) == (alone.text, alone.flops)
        assert found.avg_logprob == pytest.approx(alone.avg_logprob, abs=1e-4)


def test_an_int8_row_is_bit_for_bit_the_same_in_any_company(models: Models) -> None:
    encoder = models.onnx("int8").encoder
    alone, loud = windows(9_000, 16_000)

    (expected,) = encoder.encode([alone], FULL)
    found = encoder.encode([loud * 20, alone], FULL)[1]

    np.testing.assert_allclose(found.states_TD, expected.states_TD, rtol=0, atol=1e-5)


def test_sizes_are_those_of_the_model(models: Models) -> None:
    checkpoint = open_checkpoint(str(models.folder))

    assert checkpoint.sizes.for_flops(3) == models.torch.sizes
    assert checkpoint.sizes.for_flops(0) == model_sizes(models.torch.module)
    assert models.torch.module.frame_samples == FRAME_SAMPLES
    assert checkpoint.sizes.memory_frame_s == models.torch.module.memory_frame_s


@given(num_samples=st.integers(0, 400_000))
def test_frames_are_counted_as_the_model_counts_them(models: Models, num_samples: int) -> None:
    sizes = open_checkpoint(str(models.folder)).sizes

    counted = int(models.torch.module.num_frames(torch.tensor([num_samples]))[0])

    assert sizes.num_frames(num_samples) == counted
    assert sizes.num_frames(RECEPTIVE_SAMPLES) == 1


def test_a_plan_of_another_number_of_layers_is_refused(exact: OnnxRecogniser) -> None:
    with pytest.raises(PlanInvalid, match="expected 3 strides, got 2"):
        exact.encoder.encode(windows(9_000), DepthPlan((1, 1)))


def test_no_windows_give_no_transcripts(exact: OnnxRecogniser) -> None:
    assert exact.transcribe_windows([], FULL) == []


def test_serving_what_was_built_needs_neither_torch_nor_the_builder(models: Models) -> None:
    models.onnx("int8")
    probe = f"""
import sys
sys.modules["torch"] = sys.modules["onnx"] = None
import numpy as np
from pathlib import Path
from model_store.depth import DepthPlan
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.onnx.recogniser import OnnxRecogniser
model = OnnxRecogniser(open_checkpoint({str(models.folder)!r}), Path({str(models.root)!r}) / "cache", "int8", 1)
model.transcribe_windows([np.zeros(9_000, np.float32)], DepthPlan((1, 2, 0)))
"""

    ran = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=False, capture_output=True)

    assert ran.returncode == 0, ran.stderr.decode()


def test_many_tokens_of_a_batch_are_those_of_torch(models: Models) -> None:
    """No end token, so that caches grow past their first room and rows leave one by one."""
    never = -1
    checkpoint = open_checkpoint(str(models.folder))
    folder = ensure_built(checkpoint, models.root / "cache", "float32")
    with np.load(folder / ARRAYS) as arrays:
        embedding = arrays["embedding"], arrays["embedding_scale"]
    sizes = dataclasses.replace(checkpoint.sizes, end_token=never)
    utterances, limits = windows(20_000, 9_000, 16_000), [75, 3, 40]
    heads = {int(layer): found for layer, found in HEADS.items()}
    lengths = torch.tensor([len(samples) for samples in utterances])
    padded_BS = torch.zeros(len(utterances), int(lengths.max()))
    for row, samples in zip(padded_BS, utterances, strict=True):
        row[: len(samples)] = torch.from_numpy(samples)
    module = models.torch.module
    with torch.inference_mode():
        encoded = module.encode(padded_BS, lengths, DepthSchedule.constant(FULL))
        expected = decode_greedy(module, encoded, limits, never, heads)

    memories = models.onnx().encoder.encode(utterances, FULL)
    found = Decoder(folder, sizes, embedding, 1, "float32").greedy(memories, limits)

    for one, other in zip(found, expected, strict=True):
        assert (one.tokens, one.steps, one.ended) == (other.tokens, other.steps, other.ended)
        np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=1e-3, atol=1e-4)
        assert one.weights_HUP is not None
        assert other.weights_HUP is not None
        np.testing.assert_allclose(one.weights_HUP, other.weights_HUP, rtol=1e-3, atol=1e-4)
