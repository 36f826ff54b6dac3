"""Published checkpoints, as the hub holds them, to our modules."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model_store.backbones import (
    moonshine_names,
    moonshine_streaming_names,
    wavlm_names,
    whisper_names,
)
from model_store.backbones.build import AnyModule
from model_store.backbones.moonshine import Moonshine
from model_store.backbones.moonshine_streaming import MoonshineStreaming
from model_store.backbones.wavlm import WavLM
from model_store.backbones.whisper import Whisper
from model_store.errors import CheckpointError

Backbone = TypeVar("Backbone", bound=nn.Module)

OURS_ALONE = ("pool_RD", "give_RD")
"""Parameters that published models lack; they start as means and repeats."""


IN_ONE_FILE = frozenset({"moonshine", "moonshine_streaming", "whisper"})
"""Kinds whose weights are read from `model.safetensors` alone."""
_POINTER = b"version https://git-lfs"
"""How the file begins that git leaves in place of a large one."""


def build_published(values: Mapping[str, Any], weights: Path) -> AnyModule:
    """Make a model of a published `config.json` and its weights.

    Args:
        values: of `config.json`.
        weights: the safetensors file; Whisper's prompt is read from `generation_config.json`
            beside it, and of a WavLM whatever weights lie there.

    Raises:
        CheckpointError: the architecture is not one of ours, or the weights do not fit it.
    """
    kind = values.get("model_type")
    if kind in IN_ONE_FILE:
        _expect_weights(weights)
    try:
        if kind == "wavlm":
            return _wavlm(weights.parent)
        published = {n.removeprefix("model."): v.float() for n, v in load_file(weights).items()}
        if kind == "moonshine":
            sizes = moonshine_names.published_config(values)
            return fitted(Moonshine(sizes), moonshine_names.from_published(published, sizes))
        if kind == "moonshine_streaming":
            sizes = moonshine_streaming_names.published_config(values)
            return fitted(
                MoonshineStreaming(sizes),
                moonshine_streaming_names.from_published(published, sizes),
            )
        if kind == "whisper":
            generation = read_generation(weights.parent)
            sizes = whisper_names.published_config(values, generation)
            return fitted(Whisper(sizes), whisper_names.from_published(published, sizes))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"expected the weights of a {kind} model, got others") from error
    raise CheckpointError(
        f"expected a model_type of moonshine, moonshine_streaming, wavlm or whisper, got {kind!r}"
    )


def _expect_weights(weights: Path) -> None:
    folder = str(weights.parent)
    if not weights.is_file():
        raise CheckpointError(
            f"expected one file {weights.name} in {folder!r}, got none; weights in parts or pickled "
            f"become one by transformers' save_pretrained(..., max_shard_size='100GB')"
        )
    with weights.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise CheckpointError(
                f"expected weights in {weights.name!r}, got a pointer to them; "
                f"run `git lfs pull` in {folder!r}"
            )


def _wavlm(folder: Path) -> WavLM:
    sizes, published = wavlm_names.read_wavlm(folder)
    config = wavlm_names.published_config(sizes)
    state = wavlm_names.from_published(published, config)
    if "head.weight" not in state:
        raise CheckpointError(
            "expected a WavLM that was trained to transcribe, got one without a read-out; "
            "model_store.recipes.convert_wavlm gives it one to train"
        )
    return fitted(WavLM(config), state)


def read_generation(folder: Path) -> dict[str, Any]:  # Any: JSON
    """Read `generation_config.json` of a published model; empty where there is none."""
    path = folder / "generation_config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def published_heads(folder: Path) -> dict[str, Any]:  # Any: JSON
    """Give what `decoding.json` would say of a published model: its alignment heads, if it names any."""
    pairs = read_generation(folder).get("alignment_heads")
    if not pairs:
        return {}
    return {"alignment_heads": whisper_names.alignment_heads(pairs), "end_offset_s": 0.0}


def fitted(model: Backbone, state: Mapping[str, Tensor]) -> Backbone:
    """Load published parameters; only what is ours alone may be missing.

    Raises:
        CheckpointError: another parameter is missing or superfluous.
    """
    found = model.load_state_dict(state, strict=False)
    missing = [name for name in found.missing_keys if not any(own in name for own in OURS_ALONE)]
    if missing or found.unexpected_keys:
        raise CheckpointError(
            f"expected the parameters of the architecture, got {missing[:1]} missing "
            f"and {found.unexpected_keys[:1]} beside them"
        )
    return model.eval()
