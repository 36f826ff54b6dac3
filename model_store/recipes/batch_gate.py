"""The speech gate's graph for many recordings at once, from Silero's published one for one recording.

    python -m model_store.recipes.batch_gate --published silero_vad_16k_sequence.onnx --out GRAPH

The published graph runs its convolutions frame by frame and its LSTM along the frames of a call, as
one sequence. Here convolutions are products over the rows of all frames, and the LSTM runs along as
many sequences as there are recordings:

    frames of a call   a1 a2 a3 b1 c1 c2      order   0 3 4      lengths   3 1 2
    (rows 0..5)                                       1 . 5
                                                      2 . .      place     0 3 6 1 2 5

Weights are untouched. The result is compared with the published graph before it is written.

Dimensions: N = frames of all recordings, B = recordings, T = most frames of one, P = places of a
frame on the way to one, K = taps of a convolution, C = channels.
"""

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

PUBLISHED_SHA256 = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"
"""Of silero-vad 6.2.3, the sequence graph of its pull request 784."""

CHANNELS = 128
OPSET = 16
MOST_DIFFERENCE = 1e-5

Array: TypeAlias = npt.NDArray[np.float32]


def main() -> None:
    """Read, change, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    published = options.published.read_bytes()
    if (found := hashlib.sha256(published).hexdigest()) != PUBLISHED_SHA256:
        raise SystemExit(f"expected a file of SHA-256 {PUBLISHED_SHA256}, got {found}")
    batched = batch(onnx.load_from_string(published)).SerializeToString()
    difference = compare(published, batched)
    if difference > MOST_DIFFERENCE:
        raise SystemExit(f"expected a difference of {MOST_DIFFERENCE} at most, got {difference}")
    options.out.write_bytes(batched)
    print(f"{options.out}: {len(batched)} bytes, differs by {difference:.1e} at most")


class GraphWriter:
    """Adds nodes one behind the other; values are called by their number."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, values: npt.ArrayLike) -> str:
        """Add a constant."""
        self.constants.append(
            numpy_helper.from_array(np.asarray(values), f"c{len(self.constants)}")
        )
        return self.constants[-1].name

    def op(self, kind: str, *inputs: str, outputs: tuple[str, ...] = (), **options: int) -> str:
        """Add a node, and give its first output."""
        names = outputs or (f"v{len(self.nodes)}",)
        node = helper.make_node(kind, list(inputs), list(names))
        node.attribute.extend(helper.make_attribute(name, value) for name, value in options.items())
        self.nodes.append(node)
        return names[0]

    def part(self, x: str, start: int, end: int, axis: int, step: int = 1) -> str:
        """Add a slice."""
        return self.op("Slice", x, *(self.constant([value]) for value in (start, end, axis, step)))

    def convolution(self, x: str, weights: tuple[Array, Array], places: int, stride: int) -> str:
        """Add a convolution with one place of padding on both sides, and its positive part.

        Shapes: x (N, P, C), weight (outputs, C, K) -> (N, places, outputs)
        """
        weight_OCK, bias_O = weights
        pads = self.constant(np.array([0, 1, 0, 0, 1, 0]))
        padded = self.op("Pad", x, pads)
        taps = [
            self.part(padded, tap, tap + stride * (places - 1) + 1, 1, stride)
            for tap in range(weight_OCK.shape[2])
        ]
        rows = self.op("Concat", *taps, axis=2)
        matrix = np.ascontiguousarray(weight_OCK.transpose(2, 1, 0).reshape(-1, len(bias_O)))
        made = self.op("MatMul", rows, self.constant(matrix))
        return self.op("Relu", self.op("Add", made, self.constant(bias_O)))


def batch(published: onnx.ModelProto) -> onnx.ModelProto:
    """Build the graph over the published weights.

    Shapes:
        in: input (N, 576), order (T, B) row of each place, any where one has none left,
        lengths (B,) int32, place (N,) of each row, h and c (1, B, 128);
        out: speech_probs (N,), hn and cn (1, B, 128).
    """
    stored = {one.name: numpy_helper.to_array(one) for one in published.graph.initializer}
    lstm = next(node for node in published.graph.node if node.op_type == "LSTM")
    graph = GraphWriter()
    # 64 samples more by reflection, and windows of 256 every 128: neighbouring blocks of 128.
    mirrored = graph.op("Gather", "input", graph.constant(np.r_[0:576, 574:510:-1]), axis=1)
    blocks = graph.op("Reshape", mirrored, graph.constant([-1, 5, 128]))
    halves = [graph.part(blocks, start, start + 4, 1) for start in (0, 1)]
    basis = np.ascontiguousarray(stored["stft.forward_basis_buffer"][:, 0].T)
    waves = graph.op("MatMul", graph.op("Concat", *halves, axis=2), graph.constant(basis))
    waves = graph.op("Mul", waves, waves)
    power = graph.op("Add", graph.part(waves, 0, 129, 2), graph.part(waves, 129, 258, 2))
    x = graph.op("Sqrt", power)
    for layer, (places, stride) in enumerate(((4, 1), (2, 2), (1, 2), (1, 1))):
        weights = stored[f"encoder.{layer}.weight"], stored[f"encoder.{layer}.bias"]
        x = graph.convolution(x, weights, places, stride)
    rows = graph.op("Reshape", x, graph.constant([-1, CHANNELS]))
    sequences = graph.op("Gather", rows, "order")
    recurrent = [graph.constant(stored[name]) for name in lstm.input[1:4]]
    heard = graph.op(
        "LSTM", sequences, *recurrent, "lengths", "h", "c",
        outputs=("heard", "hn", "cn"), hidden_size=CHANNELS,
    )  # fmt: skip
    heard = graph.op("Reshape", heard, graph.constant([-1, CHANNELS]))
    heard = graph.op("Relu", graph.op("Gather", heard, "place"))
    last = graph.constant(stored["output.weight"][0]), graph.constant(stored["output.bias"])
    scores = graph.op("Add", graph.op("MatMul", heard, last[0]), last[1])
    flat = graph.op("Reshape", scores, graph.constant([-1]))
    graph.op("Sigmoid", flat, outputs=("speech_probs",))
    return _model(graph)


def _model(graph: GraphWriter) -> onnx.ModelProto:
    state = [1, "B", CHANNELS]
    inputs = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("input", TensorProto.FLOAT, ["N", 576]),
            ("order", TensorProto.INT64, ["T", "B"]),
            ("lengths", TensorProto.INT32, ["B"]),
            ("place", TensorProto.INT64, ["N"]),
            ("h", TensorProto.FLOAT, state),
            ("c", TensorProto.FLOAT, state),
        )
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("speech_probs", ["N"]), ("hn", state), ("cn", state))
    ]
    made = helper.make_graph(graph.nodes, "silero_vad_streams", inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def compare(published: bytes, batched: bytes) -> float:
    """Give the largest difference between both graphs over noise of several lengths."""
    rng = np.random.default_rng(0)
    lengths = np.array([3, 1, 40, 7], np.int32)
    frames = rng.normal(0, 0.1, (int(lengths.sum()), 576)).astype(np.float32)
    state = rng.normal(0, 0.5, (2, 1, len(lengths), CHANNELS)).astype(np.float32)
    starts = np.cumsum([0, *lengths[:-1]])
    time_T1, order_TB = np.arange(lengths.max())[:, None], np.zeros((lengths.max(), 4), np.int64)
    there_TB = time_T1 < lengths
    order_TB[there_TB] = (starts + time_T1)[there_TB]
    place_N = np.concatenate([np.arange(n) * len(lengths) + b for b, n in enumerate(lengths)])
    inputs = {"input": frames, "order": order_TB, "lengths": lengths, "place": place_N}
    ours = _run(batched, inputs | {"h": state[0], "c": state[1]})
    worst = 0.0
    for recording, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        rows, one = slice(start, start + length), slice(recording, recording + 1)
        before = {"h": state[0][:, one].copy(), "c": state[1][:, one].copy()}
        theirs = _run(published, {"input": frames[rows]} | before)
        pairs = zip((ours[0][rows], ours[1][:, one], ours[2][:, one]), theirs, strict=True)
        worst = max(worst, *(float(np.abs(mine - other).max()) for mine, other in pairs))
    return worst


def _run(graph: bytes, inputs: Mapping[str, npt.NDArray[Any]]) -> list[Array]:
    runtime: Any = onnxruntime  # it ships no types
    return runtime.InferenceSession(graph).run(["speech_probs", "hn", "cn"], inputs)


if __name__ == "__main__":
    main()
