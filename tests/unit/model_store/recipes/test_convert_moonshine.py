from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from model_store.recipes.convert_moonshine import published_weights

PACKED_KN = np.array([[0, 128], [130, 255], [127, 128]], np.uint8)
SCALE, ZERO_POINT = np.float32(0.5), np.uint8(128)


def stored(name: str, value: npt.NDArray[np.uint8]) -> list[TensorProto]:
    return [
        numpy_helper.from_array(value, f"{name}_quantized"),
        numpy_helper.from_array(np.asarray(SCALE), f"{name}_scale"),
        numpy_helper.from_array(np.asarray(ZERO_POINT), f"{name}_zero_point"),
    ]


def written(folder: Path, node: onnx.NodeProto, name: str) -> Path:
    output = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "graph", [], [output], initializer=stored(name, PACKED_KN))
    onnx.save(helper.make_model(graph), folder / "graph.onnx")
    return folder / "graph.onnx"


def test_a_matrix_that_is_multiplied_as_bytes_is_unpacked_and_transposed(tmp_path: Path) -> None:
    node = helper.make_node(
        "MatMulInteger",
        ["x_quantized", "w_quantized", "x_zero_point", "w_zero_point"],
        ["y"],
        name="/layers.0/self_attn/q_proj/MatMul_quant",
    )

    found = published_weights(written(tmp_path, node, "w"), "encoder.")

    expected = torch.tensor([[-64.0, 1.0, -0.5], [0.0, 63.5, 0.0]])
    torch.testing.assert_close(found["encoder.layers.0.self_attn.q_proj.weight"], expected)


def test_an_embedding_that_stays_bytes_is_unpacked(tmp_path: Path) -> None:
    node = helper.make_node(
        "Gather", ["e_quantized", "ids"], ["y"], name="/model/decoder/embed_tokens/Gather"
    )

    found = published_weights(written(tmp_path, node, "e"), "")

    expected = torch.tensor([[-64.0, 0.0], [1.0, 63.5], [-0.5, 0.0]])
    torch.testing.assert_close(found["decoder.embed_tokens.weight"], expected)
