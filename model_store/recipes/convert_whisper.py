"""Convert published Whisper weights to a checkpoint folder.

    python -m model_store.recipes.convert_whisper --model FILE [FILE ...] --out DIR

FILE is the hub's `model.safetensors`, or a CTranslate2 `model.bin`, whose parts are joined in the
order given. `config.json`, `tokenizer.json` and, from the hub, `generation_config.json` are
expected beside the first one.
"""

import argparse
import json
import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from safetensors.torch import load_file
from torch import Tensor

from model_store.backbones.published import fitted
from model_store.backbones.whisper import Whisper, WhisperConfig
from model_store.backbones.whisper_names import (
    FEWEST_MULTILINGUAL,
    alignment_heads,
    from_ctranslate2,
    from_published,
    published_config,
)
from model_store.checkpoint import save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.errors import CheckpointError

FLOATS: Mapping[int, type[np.generic]] = {0: np.float32, 4: np.float16}
SCALARS: Mapping[int, type[np.generic]] = {1: np.int8, 2: np.int16, 3: np.int32}
"""Kinds of a `model.bin`; integers are read where they are settings, not quantised weights."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published model under our names."""

    config: WhisperConfig
    state: dict[str, Tensor]
    heads: Sequence[Sequence[int]]


def main() -> None:
    """Run the conversion from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--language", default="en", help="two letters, for multilingual models")
    options = parser.parse_args()
    folder = options.model[0].parent
    if options.model[0].suffix == ".safetensors":
        published = from_hub(folder, options.language)
    else:
        raw = b"".join(part.read_bytes() for part in options.model)
        published = from_model_bin(raw, folder, options.language)
    write(published, folder / "tokenizer.json", options.out)
    print(f"{published.config.encoder_layers} layers, prompt {published.config.prompt}")


def from_hub(folder: Path, language: str) -> Published:
    """Read a folder as the hub holds it."""
    generation = _read_json(folder / "generation_config.json")
    config = published_config(_read_json(folder / "config.json"), generation, language)
    stored = load_file(folder / "model.safetensors")
    named = {name.removeprefix("model."): value.float() for name, value in stored.items()}
    heads = generation.get("alignment_heads") or []
    return Published(config, from_published(named, config), heads)


def from_model_bin(raw: bytes, folder: Path, language: str) -> Published:
    """Read a CTranslate2 file; its prompt comes from the tokens beside it."""
    variables = read_model_bin(raw)
    state = from_ctranslate2(variables)
    beside = _read_json(folder / "config.json")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    vocabulary, dim = state["decoder.embedding.weight"].shape
    config = WhisperConfig(
        dim=dim,
        inner_dim=state["encoder.stack.layers.0.block.up.weight"].shape[0],
        num_heads=int(variables["encoder/num_heads"]),
        encoder_layers=_num_layers(variables, "encoder"),
        decoder_layers=_num_layers(variables, "decoder"),
        vocabulary=vocabulary,
        prompt=_prompt(tokenizer, vocabulary, language),
        end_token=_token(tokenizer, "<|endoftext|>"),
        suppressed=tuple(beside["suppress_ids"]),
        mels=state["encoder.front_end.conv1.weight"].shape[1],
        source_positions=variables["encoder/position_encodings/encodings"].shape[0],
        target_positions=state["decoder.position_LD"].shape[0],
    )
    return Published(config, state, beside["alignment_heads"])


def read_model_bin(raw: bytes) -> dict[str, Tensor]:
    """Read the variables of a CTranslate2 `model.bin`.

    Layout: u32 version, string, u32 revision, u32 count; by variable a string, u8 rank, u32 sizes,
    u8 kind, u32 bytes, data. A string is u16 length and its bytes, a NUL last.

    Raises:
        CheckpointError: the file is cut, or its weights are quantised.
    """
    place = 0

    def number(letter: str) -> int:
        nonlocal place
        value = struct.unpack_from(f"<{letter}", raw, place)[0]
        place += struct.calcsize(letter)
        return value

    def string() -> str:
        nonlocal place
        length = number("H")
        place += length
        return raw[place - length : place - 1].decode()

    try:
        _version, _name, _revision = number("I"), string(), number("I")
        found: dict[str, Tensor] = {}
        for _ in range(number("I")):
            name = string()
            shape = [number("I") for _ in range(number("B"))]
            kind, size = number("B"), number("I")
            found[name] = _variable(name, raw[place : place + size], kind, shape)
            place += size
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise CheckpointError("expected a whole CTranslate2 model.bin, got other bytes") from error
    return found


def write(published: Published, tokens: Path, out: Path) -> None:
    """Write the checkpoint folder."""
    model = fitted(Whisper(published.config), published.state)
    save_checkpoint(model, PlanCatalogue.untuned(model.num_layers), out)
    shutil.copy(tokens, out / "tokenizer.json")
    decoding = {"alignment_heads": alignment_heads(published.heads), "end_offset_s": 0.0}
    (out / "decoding.json").write_text(json.dumps(decoding, indent=1) + "\n", encoding="utf-8")


def _variable(name: str, data: bytes, kind: int, shape: list[int]) -> Tensor:
    stored = FLOATS.get(kind) or (None if shape else SCALARS.get(kind))
    if stored is None:
        raise CheckpointError(f"expected float weights, got {name!r} of kind {kind}")
    return torch.from_numpy(np.frombuffer(data, stored).reshape(shape).copy())


def _num_layers(variables: Mapping[str, Tensor], side: str) -> int:
    layers = [name.split("/")[1] for name in variables if name.startswith(f"{side}/layer_")]
    return 1 + max(int(layer.removeprefix("layer_")) for layer in layers if layer != "layer_norm")


def _prompt(tokenizer: tokenizers.Tokenizer, vocabulary: int, language: str) -> tuple[int, ...]:
    several = [f"<|{language}|>", "<|transcribe|>"] if vocabulary >= FEWEST_MULTILINGUAL else []
    names = ["<|startoftranscript|>", *several, "<|notimestamps|>"]
    return tuple(_token(tokenizer, name) for name in names)


def _token(tokenizer: tokenizers.Tokenizer, name: str) -> int:
    token = tokenizer.token_to_id(name)
    if token is None:
        raise CheckpointError(f"expected token {name!r} in tokenizer.json, got none")
    return token


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
