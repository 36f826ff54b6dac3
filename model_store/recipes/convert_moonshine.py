"""Convert published Moonshine ONNX files to a checkpoint folder, and check parity with them.

The graphs hold int8 weights that they unpack themselves; the converter folds that unpacking, so
the checkpoint has the values that the published graphs compute with.

    python -m model_store.recipes.convert_moonshine --encoder E --decoder D --tokenizer T --out DIR
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from model_store.backbones import SpeechModule
from model_store.backbones.moonshine import Moonshine, MoonshineConfig
from model_store.backbones.moonshine_names import from_published
from model_store.backbones.published import fitted
from model_store.checkpoint import save_checkpoint
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue

Array = npt.NDArray[np.float32]

RENAMED = {
    "dense": "o_proj",
    "up_proj": "fc1",
    "down_proj": "fc2",
}
"""Module names that differ between the published graphs and transformers."""

PACKED = "_quantized"
"""Ends the names of matrices that stay bytes in the graph."""


def main() -> None:
    """Run the conversion from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("encoder", "decoder", "tokenizer", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        encoder = plain_onnx(options.encoder, Path(folder) / "encoder.onnx")
        decoder = plain_onnx(options.decoder, Path(folder) / "decoder.onnx")
        weights = published_weights(encoder, "encoder.")
        weights |= published_weights(decoder, "")
        model = build(weights)
        difference = encoder_difference(model, encoder)
    print(f"largest difference of the encoder's output to the published graph: {difference:.2e}")
    options.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(options.tokenizer, options.out / "tokenizer.json")
    save_checkpoint(model, PlanCatalogue.untuned(model.num_layers), options.out)


def plain_onnx(source: Path, target: Path) -> Path:
    """Write an .ort file as plain, unoptimised ONNX; an .onnx file is one already."""
    if source.suffix == ".onnx":
        return source
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ONNX")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return target


def published_weights(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Read a graph's float parameters under the names that transformers uses.

    Args:
        path: plain ONNX.
        prefix: put before names that the graph has without it.
    """
    graph = onnx.load(str(path)).graph
    found: dict[str, Array] = {}
    folded = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    _collect(graph, folded, found)
    named = {_transformers_name(name, prefix): array for name, array in found.items()}
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in named.items()}


def build(published: dict[str, torch.Tensor]) -> SpeechModule:
    """Make the model that the parameters' own sizes describe."""
    dim = published["encoder.layer_norm.weight"].shape[0]
    config = MoonshineConfig(
        dim=dim,
        inner_dim=published["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_heads=8,
        encoder_layers=_num_layers(published, "encoder"),
        decoder_layers=_num_layers(published, "decoder"),
        vocabulary=published["decoder.embed_tokens.weight"].shape[0],
    )
    model = Moonshine(config)
    return fitted(model, from_published(published, config))


def encoder_difference(model: SpeechModule, encoder: Path, seconds: float = 3.0) -> float:
    """Give the largest absolute difference of the encoders' outputs on noise."""
    noise = np.random.default_rng(0).standard_normal((1, int(seconds * 16_000))) * 0.05
    samples_BS = noise.astype(np.float32)
    session = onnxruntime.InferenceSession(str(encoder), providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"input_values": samples_BS})[0])
    full = DepthSchedule.constant(DepthPlan.full(model.num_layers))
    with torch.inference_mode():
        states = model.encode(
            torch.from_numpy(samples_BS), torch.tensor([samples_BS.shape[1]]), full
        )
    return float(np.abs(expected - states.states_BTD.numpy()).max())


def _collect(graph: onnx.GraphProto, folded: dict[str, Array], found: dict[str, Array]) -> None:
    for node in graph.node:
        inputs = [folded.get(name) for name in node.input]
        _fold(node, inputs, folded)
        if node.op_type == "MatMulInteger":
            found[f"{_module(node)[0]}.weight"] = _unpacked(node.input[1], folded).T
        elif node.op_type == "Gather" and node.input[0].endswith(PACKED):
            found[f"{_module(node)[0]}.weight"] = _unpacked(node.input[0], folded)
        else:
            _find(node, inputs, found)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                inner = {i.name: numpy_helper.to_array(i) for i in attribute.g.initializer}
                _collect(attribute.g, folded | inner, found)


def _fold(node: onnx.NodeProto, inputs: list[Array | None], folded: dict[str, Array]) -> None:
    """Compute what depends on stored values alone, which is how the graphs unpack int8."""
    known = [value for value in inputs if value is not None]
    if len(known) != len(inputs) or not known or len(node.output) != 1:
        return
    results = {
        "Cast": lambda: known[0].astype(np.float32),
        "Mul": lambda: known[0] * known[1],
        "Add": lambda: known[0] + known[1],
        "Sub": lambda: known[0] - known[1],
        "Transpose": lambda: known[0].T,
    }
    if node.op_type in results:
        folded[node.output[0]] = results[node.op_type]()


def _unpacked(name: str, folded: dict[str, Array]) -> Array:
    """Unpack a matrix that the graph uses as bytes; scale and zero point stand beside it by name."""
    scale, zero_point = (
        folded[name.removesuffix(PACKED) + part] for part in ("_scale", "_zero_point")
    )
    return (folded[name].astype(np.float32) - zero_point.astype(np.float32)) * scale


def _module(node: onnx.NodeProto) -> tuple[str, str]:
    """Give the name of a node's module, and of its operation there."""
    module, _, operation = node.name.strip("/").replace("/", ".").rpartition(".")
    return module, operation


def _find(node: onnx.NodeProto, inputs: list[Array | None], found: dict[str, Array]) -> None:
    weights = [value for value in inputs if value is not None and value.ndim >= 1]
    if not weights or len(weights) == len(inputs):
        return
    module, operation = _module(node)
    if node.op_type == "MatMul":
        found[f"{module}.weight"] = weights[0].T
    elif node.op_type == "Conv":
        found[f"{module}.weight"] = weights[0]
        if len(weights) > 1:
            found[f"{module}.bias"] = weights[1]
    elif node.op_type == "Gather" and weights[0].ndim == 2:  # noqa: PLR2004
        found[f"{module}.weight"] = weights[0]
    elif node.op_type in {"Add", "Mul"} and operation in {"Add", "Mul"}:
        found[f"{module}.{'bias' if node.op_type == 'Add' else 'weight'}"] = weights[0].ravel()


def _transformers_name(name: str, prefix: str) -> str:
    parts = [RENAMED.get(part, part) for part in name.removeprefix("model.").split(".")]
    return prefix + ".".join(parts)


def _num_layers(published: dict[str, torch.Tensor], side: str) -> int:
    names = [name.split(".") for name in published if name.startswith(f"{side}.layers.")]
    return 1 + max(int(parts[2]) for parts in names)


if __name__ == "__main__":
    main()
