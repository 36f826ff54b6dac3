"""What only Whisper does: padding, suppressed tokens, its converters."""

import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from model_store.backbones.log_mel import DYNAMIC_RANGE, PRIOR_MAXIMUM, LogMel
from model_store.backbones.whisper import Whisper
from model_store.backbones.whisper_names import alignment_heads
from model_store.checkpoint import load_checkpoint
from model_store.decoding.greedy import decode_greedy
from model_store.errors import AudioTooLong, CheckpointError
from model_store.recipes import convert_whisper
from tests.numerics.backbones import (
    BACKBONES,
    END,
    PROMPT,
    VOCABULARY,
    WHISPER,
    constant,
    encode,
    noise,
    write_tokenizer,
)

FULL = constant(1, 1, 1)
SUPPRESSED = (3, 5, 8)
OURS_ALONE = ("pool_RD", "give_RD", "bypass")


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    model = BACKBONES["whisper-padded"].build(bypass_rank=0)
    assert isinstance(model, Whisper)
    return model


def test_silence_completes_every_utterance(whisper: Whisper) -> None:
    encoded = encode(whisper, *noise(20_000, 5_000), FULL)

    assert encoded.num_frames_B.tolist() == [200, 200]


def test_audio_beyond_the_last_position_is_refused(whisper: Whisper) -> None:
    with pytest.raises(AudioTooLong, match="at most 4 s"):
        encode(whisper, *noise(4 * 16_000 + 160), FULL)


def test_a_chunk_mask_clamps_features_by_a_fixed_maximum() -> None:
    samples_BS, num_samples_B = noise(8_000)
    windows_B = torch.tensor([50])
    log_mel = LogMel(80)

    silent_BMN = log_mel(0 * samples_BS, num_samples_B, windows_B, running=True)
    loud_BMN = log_mel(samples_BS, num_samples_B, windows_B, running=True)

    floor = (PRIOR_MAXIMUM - DYNAMIC_RANGE + 4) / 4
    assert torch.allclose(silent_BMN, torch.full_like(silent_BMN, floor))
    assert float(loud_BMN.max()) > floor + 1


def test_what_is_never_text_is_never_decoded() -> None:
    config = dataclasses.replace(WHISPER, suppressed=SUPPRESSED)
    state_BUD = torch.randn(1, 4, config.dim, generator=torch.Generator().manual_seed(0))
    decoder = Whisper(config).eval().decoder

    barred_V = decoder.logits(state_BUD)[0, 0].isneginf()

    assert barred_V.nonzero().flatten().tolist() == [*SUPPRESSED, *range(END + 1, VOCABULARY)]
    assert bool(decoder.train().logits(state_BUD).isfinite().all())


def test_the_prompt_comes_before_every_transcript(whisper: Whisper) -> None:
    encoded = encode(whisper, *noise(20_000), FULL)

    hypothesis = decode_greedy(whisper, encoded, [3], whisper.config.end_token)[0]

    with torch.inference_mode():
        pooled = whisper.decoder.pool(encoded)
        cache = whisper.decoder.begin(pooled, 8)
        prompt_BU = torch.tensor([[*PROMPT, *hypothesis.tokens[:-1]]])
        best_BU = whisper.decoder.logits(whisper.decoder(prompt_BU, cache)).argmax(-1)
    assert best_BU[0, len(PROMPT) - 1 :].tolist() == hypothesis.tokens


def test_alignment_heads_are_grouped_by_layer() -> None:
    assert alignment_heads([[1, 0], [2, 0], [2, 5]]) == {"1": [0], "2": [0, 5]}


def test_a_folder_of_the_hub_is_converted(whisper: Whisper, tmp_path: Path) -> None:
    source, target = tmp_path / "hub", tmp_path / "ours"
    write_hub_folder(whisper, source)

    convert_whisper.write(convert_whisper.from_hub(source, "en"), source / "tokenizer.json", target)

    assert_same(load_checkpoint(target).model, whisper)
    decoding = json.loads((target / "decoding.json").read_text(encoding="utf-8"))
    assert decoding["alignment_heads"] == {"0": [1], "1": [2, 3]}


def test_a_model_bin_is_converted(whisper: Whisper, tmp_path: Path) -> None:
    beside = {"suppress_ids": [], "alignment_heads": [[1, 2]]}
    (tmp_path / "config.json").write_text(json.dumps(beside), encoding="utf-8")
    write_tokenizer(tmp_path)

    published = convert_whisper.from_model_bin(model_bin(whisper), tmp_path, "en")
    convert_whisper.write(published, tmp_path / "tokenizer.json", tmp_path / "ours")

    model = load_checkpoint(tmp_path / "ours").model
    assert isinstance(model, Whisper)
    assert model.prompt == (PROMPT[0], PROMPT[2])
    assert model.config.mels == 128
    assert_same(model, whisper)


def test_a_cut_model_bin_is_refused(whisper: Whisper) -> None:
    with pytest.raises(CheckpointError, match="expected a whole CTranslate2"):
        convert_whisper.read_model_bin(model_bin(whisper)[:-100])


def test_a_quantised_model_bin_is_refused() -> None:
    with pytest.raises(CheckpointError, match="expected float weights, got 'w' of kind 1"):
        convert_whisper.read_model_bin(packed({"w": torch.ones(2, 2, dtype=torch.int8)}))


def assert_same(found: torch.nn.Module, expected: Whisper) -> None:
    state = found.state_dict()
    own = expected.state_dict()
    for name, value in own.items():
        if any(part in name for part in OURS_ALONE):
            continue
        # Norms have one row a stride; published models know the first alone, keys no bias.
        first = value[:1].expand_as(value) if name.endswith("_SD") else value
        torch.testing.assert_close(state[name], without_key_bias(name, first), msg=name)


def without_key_bias(name: str, value: Tensor) -> Tensor:
    parts = {"qkv.bias": 1, "kv.bias": 0}
    for ending, index in parts.items():
        if name.endswith(f".{ending}"):
            size = WHISPER.dim
            value = value.clone()
            value[index * size : (index + 1) * size] = 0
            break
    return value


def write_hub_folder(model: Whisper, folder: Path) -> None:
    folder.mkdir()
    write_tokenizer(folder)
    config = model.config
    sizes = {
        "model_type": "whisper",
        "d_model": config.dim,
        "encoder_ffn_dim": config.inner_dim,
        "encoder_attention_heads": config.num_heads,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "vocab_size": config.vocabulary,
        "eos_token_id": config.end_token,
        "num_mel_bins": config.mels,
        "max_source_positions": config.source_positions,
        "max_target_positions": config.target_positions,
        "decoder_start_token_id": PROMPT[0],
    }
    generation = {
        "no_timestamps_token_id": PROMPT[2],
        "alignment_heads": [[0, 1], [1, 2], [1, 3]],
    }
    (folder / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    save_file(hub_parameters(model), folder / "model.safetensors")


def hub_parameters(model: Whisper) -> dict[str, Tensor]:
    renamed = {
        "encoder.front_end.": "encoder.",
        "encoder.stack.": "encoder.",
        ".block.": ".",
        "encoder.norm.": "encoder.layer_norm.",
        "decoder.norm.": "decoder.layer_norm.",
        "decoder.embedding.": "decoder.embed_tokens.",
        "decoder.position_LD": "decoder.embed_positions.weight",
        "attention_norm.": "self_attn_layer_norm.",
        "cross_norm.": "encoder_attn_layer_norm.",
        "mlp_norm.": "final_layer_norm.",
        "attention.out.": "self_attn.out_proj.",
        "cross.out.": "encoder_attn.out_proj.",
        "cross.query.": "encoder_attn.q_proj.",
        ".up.": ".fc1.",
        ".down.": ".fc2.",
    }
    found: dict[str, Tensor] = {}
    for name, value in plain_parameters(model).items():
        theirs = f"model.{name}"
        for ours, other in renamed.items():
            theirs = theirs.replace(ours, other)
        stacked = theirs.rpartition(".")[0].rpartition(".")[2]
        if stacked not in {"qkv", "kv"}:
            found[theirs] = value.contiguous()
            continue
        target = "self_attn" if stacked == "qkv" else "encoder_attn"
        for letter, part in zip(stacked, value.chunk(len(stacked)), strict=True):
            path = theirs.replace(f"attention.{stacked}", target).replace(
                f"cross.{stacked}", target
            )
            module, _, kind = path.rpartition(".")
            if (letter, kind) != ("k", "bias"):
                found[f"{module}.{letter}_proj.{kind}"] = part.contiguous()
    return found


def model_bin(model: Whisper) -> bytes:
    renamed = {
        "encoder.front_end.": "encoder/",
        "encoder.stack.layers.": "encoder/layer_",
        "decoder.layers.": "decoder/layer_",
        ".block.": ".",
        "encoder.norm.": "encoder/layer_norm/",
        "decoder.norm.": "decoder/layer_norm/",
        "decoder.embedding.": "decoder/embeddings/",
        "decoder.position_LD": "decoder/position_encodings/encodings",
        ".attention_norm.": "/self_attention/layer_norm/",
        ".attention.qkv.": "/self_attention/linear_0/",
        ".attention.out.": "/self_attention/linear_1/",
        ".cross_norm.": "/attention/layer_norm/",
        ".cross.query.": "/attention/linear_0/",
        ".cross.kv.": "/attention/linear_1/",
        ".cross.out.": "/attention/linear_2/",
        ".mlp_norm.": "/ffn/layer_norm/",
        ".up.": "/ffn/linear_0/",
        ".down.": "/ffn/linear_1/",
    }
    variables = {
        "encoder/num_heads": torch.tensor(WHISPER.num_heads, dtype=torch.int16),
        "encoder/position_encodings/encodings": torch.zeros(WHISPER.source_positions, WHISPER.dim),
        "decoder/scale_embeddings": torch.tensor(0, dtype=torch.int8),
    }
    for name, value in plain_parameters(model).items():
        theirs = name
        for ours, other in renamed.items():
            theirs = theirs.replace(ours, other)
        if "layer_norm" in theirs:
            theirs = theirs.replace("weight", "gamma").replace("bias", "beta")
        variables[theirs.replace(".", "/")] = without_key_bias(name, value)
    return packed(variables)


def plain_parameters(model: Whisper) -> dict[str, Tensor]:
    return {
        name.removesuffix("_SD"): value[0] if name.endswith("_SD") else value
        for name, value in model.state_dict().items()
        if not any(part in name for part in OURS_ALONE)
    }


def packed(variables: dict[str, Tensor]) -> bytes:
    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    kinds = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    found = [struct.pack("<I", 6), string("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    for name, value in variables.items():
        array = np.ascontiguousarray(value.numpy())
        sizes = struct.pack(f"<B{value.dim()}I", value.dim(), *value.shape)
        data = array.tobytes()
        found += [string(name), sizes, struct.pack("<BI", kinds[array.dtype.name], len(data)), data]
    return b"".join(found)
