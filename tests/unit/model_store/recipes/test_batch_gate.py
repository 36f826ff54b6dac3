"""The speech gate's graph for many recordings against its layers written down in torch."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

from model_store.recipes.batch_gate import CHANNELS, batch

Weights = dict[str, np.ndarray]
ENCODER = ((129, 128, 1), (128, 64, 2), (64, 64, 2), (64, CHANNELS, 1))
"""Inputs, outputs and stride of each convolution."""


def weights(seed: int) -> Weights:
    draw = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        fan_in = int(np.prod(shape[1:])) or 1
        return (draw.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    stored = {"stft.forward_basis_buffer": drawn(258, 1, 256)}
    for layer, (inputs, outputs, _) in enumerate(ENCODER):
        stored[f"encoder.{layer}.weight"] = drawn(outputs, inputs, 3)
        stored[f"encoder.{layer}.bias"] = drawn(outputs)
    stored["W"], stored["R"] = drawn(1, 4 * CHANNELS, CHANNELS), drawn(1, 4 * CHANNELS, CHANNELS)
    stored["B"] = drawn(1, 8 * CHANNELS)
    stored["output.weight"], stored["output.bias"] = drawn(1, CHANNELS, 1), drawn(1)
    return stored


def published(stored: Weights) -> onnx.ModelProto:
    """What `batch` reads of the published graph: its weights, and which are the LSTM's."""
    lstm = helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], hidden_size=CHANNELS)
    kept = [numpy_helper.from_array(values, name) for name, values in stored.items()]
    return helper.make_model(helper.make_graph([lstm], "published", [], [], kept))


def expected(
    stored: Weights, frames_NS: np.ndarray, hidden: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of one recording's frames, hidden and cell state behind them."""
    kept = {name: torch.from_numpy(values) for name, values in stored.items()}
    x = functional.pad(torch.from_numpy(frames_NS)[:, None], (0, 64), mode="reflect")
    waves = functional.conv1d(x, kept["stft.forward_basis_buffer"], stride=128)
    x = (waves[:, :129] ** 2 + waves[:, 129:] ** 2).sqrt()
    for layer, (*_, stride) in enumerate(ENCODER):
        weight, bias = kept[f"encoder.{layer}.weight"], kept[f"encoder.{layer}.bias"]
        x = functional.conv1d(x, weight, bias, stride=stride, padding=1).relu()
    lstm = torch.nn.LSTM(CHANNELS, CHANNELS)

    def as_torch(values: torch.Tensor) -> torch.Tensor:
        i, o, f, c = values.chunk(4)  # ONNX has input, output, forget, cell
        return torch.cat([i, f, c, o])

    with torch.no_grad():
        parameters = dict(lstm.named_parameters())
        parameters["weight_ih_l0"].copy_(as_torch(kept["W"][0]))
        parameters["weight_hh_l0"].copy_(as_torch(kept["R"][0]))
        for name, half in zip(("bias_ih_l0", "bias_hh_l0"), kept["B"][0].chunk(2), strict=True):
            parameters[name].copy_(as_torch(half))
        state = torch.from_numpy(hidden), torch.from_numpy(cell)
        heard, (last_hidden, last_cell) = lstm(x[:, :, 0][:, None], state)
        score = heard[:, 0].relu() @ kept["output.weight"][0] + kept["output.bias"]
    return score.sigmoid()[:, 0].numpy(), last_hidden.numpy(), last_cell.numpy()


@pytest.mark.parametrize("lengths", [[1], [5], [3, 1, 4], [2, 2]])
def test_recordings_side_by_side_are_heard_as_each_by_itself(lengths: list[int]) -> None:
    stored, draw = weights(len(lengths)), np.random.default_rng(1)
    runtime: Any = onnxruntime  # it ships no types
    session = runtime.InferenceSession(batch(published(stored)).SerializeToString())
    frames = [draw.normal(0, 0.3, (n, 576)).astype(np.float32) for n in lengths]
    hidden, cell = draw.normal(0, 0.5, (2, 1, len(lengths), CHANNELS)).astype(np.float32)
    starts, order_TB = np.cumsum([0, *lengths[:-1]]), np.zeros((max(lengths), len(lengths)), int)
    place: list[int] = []
    for recording, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        order_TB[:length, recording] = start + np.arange(length)
        place += [time * len(lengths) + recording for time in range(length)]

    found: list[np.ndarray] = session.run(
        ["speech_probs", "hn", "cn"],
        {
            "input": np.concatenate(frames),
            "order": order_TB,
            "lengths": np.array(lengths, np.int32),
            "place": np.array(place),
            "h": hidden,
            "c": cell,
        },
    )

    for recording, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        one = slice(recording, recording + 1)
        alone = expected(stored, frames[recording], hidden[:, one].copy(), cell[:, one].copy())
        theirs = found[0][start : start + length], found[1][:, one], found[2][:, one]
        for mine, other in zip(alone, theirs, strict=True):
            np.testing.assert_allclose(other, mine, atol=2e-5)
