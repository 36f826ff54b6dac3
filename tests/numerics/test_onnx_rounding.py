"""What rounding to bytes costs, and what keeps it small: balanced channels, rows behind a GELU."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import DepthPlan
from model_store.recipes.measure_activations import measure
from model_store.registry import Recogniser
from model_store.training.manifest import Utterance
from model_store.training.measure import Recording
from service.engine.onnx.checkpoint import ACTIVATIONS, REACHED, Floats, Matrix, open_checkpoint
from service.engine.onnx.graph import GELU_LEAST, GraphBuilder
from service.engine.onnx.processor import SERVED, Numerics
from service.engine.onnx.recogniser import OnnxRecogniser
from tests.onnx_kit import windows, write_checkpoint

ROWS, INPUTS, OUTPUTS = 24, 48, 16
PLANS = tuple(map(DepthPlan.parse, ("1,1,1", "1,2,4")))


def product(rows: Floats, numerics: Numerics, *, of_gelu: bool) -> Floats:
    rng = np.random.default_rng(3)
    matrix = Matrix.pack(rng.normal(size=(OUTPUTS, INPUTS)).astype(np.float32))
    bias = rng.normal(size=OUTPUTS).astype(np.float32)
    graph = GraphBuilder("product", numerics)
    x = graph.input("x", ("rows", INPUTS))
    y = graph.linear_of_gelu(x, matrix, bias) if of_gelu else graph.linear(x, matrix, bias)
    graph.output(y, "y", ("rows", OUTPUTS))
    session = ort.InferenceSession(graph.model(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": rows})[0])


def behind_a_gelu(seed: int, loudness: float) -> Floats:
    rng = np.random.default_rng(seed)
    return np.maximum(GELU_LEAST, rng.normal(size=(ROWS, INPUTS)) * loudness).astype(np.float32)


@pytest.mark.parametrize("numerics", SERVED)
def test_rows_behind_a_gelu_use_every_byte(numerics: Numerics) -> None:
    rows = behind_a_gelu(0, 2.0)
    exact = product(rows, "float32", of_gelu=True)

    error = np.square(product(rows, numerics, of_gelu=True) - exact).mean()
    plain = np.square(product(rows, numerics, of_gelu=False) - exact).mean()

    assert error < 0.4 * plain


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), loudness=st.floats(0, 50), numerics=st.sampled_from(SERVED))
def test_rows_behind_a_gelu_are_near_the_exact_ones_and_nobody_elses(
    seed: int, loudness: float, numerics: Numerics
) -> None:
    rows = behind_a_gelu(seed, loudness)
    exact = product(rows, "float32", of_gelu=True)

    found = product(rows, numerics, of_gelu=True)

    largest = rows.max(axis=1, keepdims=True) - GELU_LEAST
    assert (np.abs(found - exact) <= 0.2 * largest + 1e-4).all()
    np.testing.assert_allclose(product(rows[:1], numerics, of_gelu=True), found[:1], atol=1e-5)


def with_loud_channels(folder: Path) -> None:
    """Give the norms before products a few channels that outshout the others."""
    checkpoint = load_checkpoint(folder)
    state = checkpoint.model.state_dict()
    for name, value in state.items():
        if name.endswith(("attention_norm.weight_SD", "mlp_norm.weight_SD")):
            value[:, 1] *= 40
            product_name = name.replace("attention_norm.weight_SD", "attention.qkv.weight")
            state[product_name.replace("mlp_norm.weight_SD", "up.weight")][:, 1] /= 40
    checkpoint.model.load_state_dict(state)
    save_checkpoint(checkpoint.model, checkpoint.catalogue, folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "tiny", "moonshine")
    with_loud_channels(folder)
    return folder


def state_error(folder: Path, cache: Path) -> float:
    checkpoint, samples = open_checkpoint(str(folder)), windows(40_000, 16_000)
    rounded, exact = (
        OnnxRecogniser(checkpoint, cache, numerics, 1).encoder for numerics in ("int8", "float32")
    )
    return max(
        float(np.square(one.states_TD - other.states_TD).mean())
        for plan in PLANS
        for one, other in zip(
            rounded.encode(samples, plan), exact.encode(samples, plan), strict=True
        )
    )


def test_measured_activations_make_rounding_cheaper(folder: Path, tmp_path: Path) -> None:
    model = Recogniser("tiny", load_checkpoint(folder), "float32")
    recordings = [
        Recording(
            Utterance(str(n), Path(f"{n}.wav"), len(one) / 16_000, "nobody", "word"), one, "word"
        )
        for n, one in enumerate(windows(40_000, 30_000))
    ]
    before = state_error(folder, tmp_path / "cache")

    reached = measure(model, recordings, PLANS)
    save_file({f"{name}{REACHED}": one for name, one in reached.items()}, folder / ACTIVATIONS)

    assert len(reached) == 2 * len(PLANS[0].strides)
    assert all(one.argmax() == 1 for one in reached.values())
    assert state_error(folder, tmp_path / "cache") < 0.3 * before


def test_shipped_activations_are_of_the_shipped_matrices() -> None:
    checkpoint = open_checkpoint("moonshine-base-elastic")
    measured = load_file(checkpoint.folder / ACTIVATIONS)

    names = [f"encoder.stack.layers.{layer}.block." for layer in range(8)]
    expected = {f"{name}{kind}{REACHED}" for name in names for kind in ("attention.qkv", "up")}
    assert set(measured) == expected
    assert all((one > 0).all() for one in measured.values())
