"""Folding and quantising a graph that keeps its matrix as the published one does."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers.requantise import fold_weights, requantise

IR_VERSION, OPSET = 9, 17


def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def stored_as_int8() -> onnx.GraphProto:
    """Build the wheel's way of keeping a matrix: int8, turned back where it is used."""
    rng = np.random.default_rng(0)
    quantised = rng.integers(-128, 127, (6, 6), dtype=np.int8)
    nodes = [
        helper.make_node("Cast", ["quantised"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["matrix"]),
        helper.make_node("If", ["turned"], ["out"],
                         then_branch=product(turned=True), else_branch=product(turned=False)),
    ]  # fmt: skip
    return helper.make_graph(
        nodes,
        "stored",
        [value("turned", TensorProto.BOOL), value("x", TensorProto.FLOAT, 6, 6)],
        [value("out", TensorProto.FLOAT, "rows", "columns")],
        [
            numpy_helper.from_array(quantised, "quantised"),
            numpy_helper.from_array(np.array(0.03, dtype=np.float32), "scale"),
            numpy_helper.from_array(np.array(-0.2, dtype=np.float32), "offset"),
        ],
    )


def product(*, turned: bool) -> onnx.GraphProto:
    nodes = [
        helper.make_node("Transpose", ["matrix"], ["across"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "across"], ["y"]),
    ]
    if not turned:
        nodes = [helper.make_node("MatMul", ["x", "matrix"], ["y"])]
    outputs = [value("y", TensorProto.FLOAT, "rows", "columns")]
    return helper.make_graph(nodes, "turned" if turned else "straight", [], outputs)


def model() -> onnx.ModelProto:
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(stored_as_int8(), opset_imports=[opset], ir_version=IR_VERSION)


def run(path: Path, *, turned: bool) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.eye(6, dtype=np.float32)
    return np.asarray(session.run(None, {"turned": np.array(turned), "x": x})[0])


def operations(graph: onnx.GraphProto) -> list[str]:
    inner = [
        name
        for node in graph.node
        for attribute in node.attribute
        if attribute.type == onnx.AttributeProto.GRAPH
        for name in operations(attribute.g)
    ]
    return [node.op_type for node in graph.node] + inner


@pytest.mark.parametrize("turned", [True, False])
def test_folding_changes_no_bit(tmp_path: Path, turned: bool) -> None:
    shipped, folded = tmp_path / "shipped.onnx", tmp_path / "folded.onnx"
    stored = model()
    onnx.save(stored, shipped)
    fold_weights(stored)
    onnx.save(stored, folded)

    assert operations(stored.graph) == ["If", "MatMul", "MatMul"]
    assert np.array_equal(run(folded, turned=turned), run(shipped, turned=turned))


def test_folding_keeps_only_the_weights_that_are_read() -> None:
    stored = model()

    fold_weights(stored)

    shapes = [tuple(tensor.dims) for tensor in stored.graph.initializer]
    assert shapes == [(6, 6), (6, 6)]


@pytest.mark.parametrize("turned", [True, False])
def test_requantised_products_are_integers_and_close(tmp_path: Path, turned: bool) -> None:
    shipped, fast = tmp_path / "shipped.onnx", tmp_path / "fast.onnx"
    onnx.save(model(), shipped)

    requantise(shipped, fast)

    expected = run(shipped, turned=turned)
    step = (expected.max() - expected.min()) / 255
    assert operations(onnx.load(fast).graph).count("MatMulInteger") == 2
    assert np.abs(run(fast, turned=turned) - expected).max() < 2 * step


def test_only_the_product_is_left_beside_it(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped.onnx"
    onnx.save(model(), shipped)

    requantise(shipped, tmp_path / "fast.onnx")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["fast.onnx", "shipped.onnx"]
