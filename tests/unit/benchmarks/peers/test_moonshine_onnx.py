"""The greedy loop on a made-up model: token t is followed by token t + 1, whatever is heard."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from benchmarks.peers.moonshine_onnx import MoonshineConfig, MoonshineOnnx

WORDS = ("<unk>", "<s>", "</s>", "one", "two", "three", "four", "five")
START, END = 1, 2
IR_VERSION, OPSET = 9, 17
KINDS = ("decoder", "encoder")
FILLED = "present.0.encoder.key"
SECOND = np.zeros(16_000, dtype=np.float32)
COUNT_TO_THREE = {START: 3, 3: 4, 4: 5, 5: END}
FOR_EVER = {START: 3, 3: 4, 4: 3}


def save(graph: onnx.GraphProto, path: Path) -> Path:
    opset = helper.make_opsetid("", OPSET)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION), path)
    return path


def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def encoder_graph() -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Unsqueeze", ["input_values", "axis"], ["last_hidden_state"])],
        "encoder",
        [value("input_values", TensorProto.FLOAT, 1, "samples")],
        [value("last_hidden_state", TensorProto.FLOAT, 1, "samples", 1)],
        [numpy_helper.from_array(np.array([2]), "axis")],
    )


def decoder_graph(following: dict[int, int]) -> onnx.GraphProto:
    """Build a decoder with one cache that grows by a row a step, and one filled at the first."""
    table = np.zeros((len(WORDS), len(WORDS)), dtype=np.float32)
    for token, after in following.items():
        table[token, after] = 1.0
    shape = ("batch", 2, "past", 3)
    cache = [value(f"past_key_values.0.{kind}.key", TensorProto.FLOAT, *shape) for kind in KINDS]
    grown = [value(f"present.0.{kind}.key", TensorProto.FLOAT, 1, 2, "n", 3) for kind in KINDS]
    return helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
            helper.make_node("If", ["use_cache_branch"], ["present.0.decoder.key", FILLED],
                             then_branch=branch(later=True), else_branch=branch(later=False)),
        ],
        "decoder",
        [
            value("input_ids", TensorProto.INT64, 1, "tokens"),
            value("encoder_hidden_states", TensorProto.FLOAT, 1, "frames", 1),
            value("use_cache_branch", TensorProto.BOOL, 1),
            *cache,
        ],
        [value("logits", TensorProto.FLOAT, 1, "tokens", len(WORDS)), *grown],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.zeros((1, 2, 1, 3), dtype=np.float32), "row"),
        ],
    )  # fmt: skip


def branch(*, later: bool) -> onnx.GraphProto:
    outputs = [value(name, TensorProto.FLOAT, 1, 2, "n", 3) for name in ("grown", "filled")]
    if not later:
        copies = [helper.make_node("Identity", ["row"], [name]) for name in ("grown", "filled")]
        return helper.make_graph(copies, "first", [], outputs)
    # Squeezing fails unless the cross-attention cache is still as the first step filled it.
    nodes = [
        helper.make_node("Concat", ["past_key_values.0.decoder.key", "row"], ["grown"], axis=2),
        helper.make_node("Squeeze", ["past_key_values.0.encoder.key", "axis"], ["one"]),
        helper.make_node("Unsqueeze", ["one", "axis"], ["kept"]),
        helper.make_node("Slice", ["kept", "zero", "zero", "axis"], ["filled"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([2]), "axis"),
        numpy_helper.from_array(np.array([0]), "zero"),
    ]
    return helper.make_graph(nodes, "later", [], outputs, constants)


def tokenizer(path: Path) -> Path:
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    inner.save(str(path))
    return path


def peer(folder: Path, following: dict[int, int], tokens_per_s: float = 100.0) -> MoonshineOnnx:
    return MoonshineOnnx(
        "made-up",
        save(encoder_graph(), folder / "encoder.onnx"),
        save(decoder_graph(following), folder / "decoder.onnx"),
        tokenizer(folder / "tokenizer.json"),
        MoonshineConfig(tokens_per_s=tokens_per_s),
    )


def test_decoding_stops_at_the_end_token(tmp_path: Path) -> None:
    assert peer(tmp_path, COUNT_TO_THREE).transcribe(SECOND) == "one two three"


def test_an_endless_text_stops_at_the_limit(tmp_path: Path) -> None:
    assert len(peer(tmp_path, FOR_EVER, tokens_per_s=6.5).decode(SECOND)) == 5


def test_the_settings_are_told_for_the_result_file(tmp_path: Path) -> None:
    config = peer(tmp_path, COUNT_TO_THREE).config

    assert config["threads"] == 1
    assert config["tokens_per_s"] == 100.0


@pytest.mark.parametrize(("seconds", "tokens"), [(0.1, 1), (1, 5), (2, 12), (10, 64)])
def test_the_limit_is_the_published_one_and_counts_the_start_token(
    seconds: float, tokens: int
) -> None:
    assert MoonshineConfig().max_tokens(int(seconds * 16_000)) == tokens
