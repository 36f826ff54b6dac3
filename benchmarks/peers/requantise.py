"""Make a published Moonshine graph as fast as it can be run without changing the model.

As shipped, both sizes waste most of a decoder step: base stores every matrix as int8 and turns it
back into float32 each time it is used, tiny does so with the output matrix (its embedding,
transposed). A peer slowed by its packaging flatters whoever is measured beside it, so:

    int8 -> Cast -> Mul -> Add -> [Transpose] -> MatMul      as shipped, every step
    float32 constant          -> MatMul                      folded: the same numbers, computed once
    uint8 constant            -> MatMulInteger               quantised as the makers did for tiny

The folded weights are bit for bit those of the shipped graph. Quantising the activations rounds a
little more; both are measured, `shipped` and `onnx`.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

Array = npt.NDArray[Any]  # any element type: int8 weights, float32 scales, int64 shapes
FOLDABLE = ("Cast", "DequantizeLinear", "Mul", "Add", "Transpose")
DOMAINS = ("", "com.microsoft")


def requantise(source: Path, target: Path) -> None:
    """Write `source` (.ort or .onnx) to `target` with folded weights and int8 products."""
    with TemporaryDirectory(dir=target.parent) as folder:
        plain = Path(folder) / "plain.onnx"
        folded = Path(folder) / "folded.onnx"
        _save_as_onnx(source, plain)
        model = onnx.load(plain)
        fold_weights(model)
        onnx.save(model, folded)
        quantize_dynamic(
            folded,
            target,
            op_types_to_quantize=["MatMul"],
            # As the makers' export of tiny. Unsigned: signed weights overflow the 16-bit sums of
            # AVX2 without VNNI.
            weight_type=QuantType.QUInt8,
            extra_options={"EnableSubgraph": True},
        )


def fold_weights(model: onnx.ModelProto) -> None:
    """Compute, in place, what depends on weights alone, in the main graph and its branches."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    _fold_graph(graph, weights, {})
    used = set(_names_read(graph))
    graph.ClearField("initializer")
    graph.initializer.extend(tensor for name, tensor in weights.items() if name in used)
    opsets = [opset for opset in model.opset_import if opset.domain in DOMAINS]
    model.ClearField("opset_import")
    model.opset_import.extend(opsets)


def _fold_graph(
    graph: onnx.GraphProto, weights: dict[str, onnx.TensorProto], renamed: dict[str, str]
) -> None:
    # A saved .ort leaves graphs without a name, which the checker refuses.
    graph.name = graph.name or "graph"
    kept: list[onnx.NodeProto] = []
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        constant = node.op_type in FOLDABLE and all(name in weights for name in node.input)
        if not constant or node.output[0] in outputs:
            kept.append(node)
            continue
        # Named by what it was made of, so that both branches of an If share one constant.
        name = f"{node.op_type}({','.join(node.input)})"
        if name not in weights:
            inputs = [numpy_helper.to_array(weights[given]) for given in node.input]
            weights[name] = numpy_helper.from_array(_evaluate(node, inputs), name)
        renamed[node.output[0]] = name
    graph.ClearField("node")
    graph.node.extend(kept)  # copies: branches are visited after it, or they would be old ones
    for branch in _branches(graph):
        _fold_graph(branch, weights, renamed)


def _evaluate(node: onnx.NodeProto, inputs: list[Array]) -> Array:
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    match node.op_type:
        case "Cast":
            kind = onnx.helper.tensor_dtype_to_np_dtype(int(cast("int", attributes["to"])))
            result = inputs[0].astype(kind)
        case "DequantizeLinear":
            zero = inputs[2] if len(inputs) == 3 else np.zeros((), dtype=inputs[0].dtype)
            result = (inputs[0].astype(np.float32) - zero.astype(np.float32)) * inputs[1]
        case "Mul":
            result = inputs[0] * inputs[1]
        case "Add":
            result = inputs[0] + inputs[1]
        case _:
            axes = cast("list[int] | None", attributes.get("perm"))
            result = inputs[0].transpose(axes)
    return np.ascontiguousarray(result)


def _branches(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g


def _names_read(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (name for node in graph.node for name in node.input)
    yield from (output.name for output in graph.output)
    for branch in _branches(graph):
        yield from _names_read(branch)


def _save_as_onnx(source: Path, target: Path) -> None:
    options = onnxruntime.SessionOptions()
    # Nothing may be rewritten for this machine's processor: only the container changes.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ONNX")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
