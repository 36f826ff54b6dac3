"""Published Whisper parameter names to ours: queries, keys and values are stacked, norms repeated.

Two families are read: names as in transformers, `models/whisper` (Apache-2.0), which is also what
the hub's safetensors hold; and those of a CTranslate2 `model.bin`, stacked as ours are.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from model_store.backbones.whisper import WhisperConfig
from model_store.depth import STRIDES

FEWEST_MULTILINGUAL = 51_865
"""Vocabularies below this are of one language, whose prompt names neither language nor task."""

ALIASES = ("decoder/projection/", "decoder/scale_embeddings", "/position_encodings/")
"""CTranslate2 variables that are constants or stored elsewhere; the decoder's positions are kept."""

_CTRANSLATE2 = (
    (r"^(en|de)coder/layer_(\d+)/self_attention/linear_0/", r"\1coder/layers.\2.attention.qkv."),
    (r"^(en|de)coder/layer_(\d+)/self_attention/linear_1/", r"\1coder/layers.\2.attention.out."),
    (r"^(en|de)coder/layer_(\d+)/self_attention/layer_norm/", r"\1coder/layers.\2.attention_norm."),
    (r"^decoder/layer_(\d+)/attention/linear_0/", r"decoder/layers.\1.cross.query."),
    (r"^decoder/layer_(\d+)/attention/linear_1/", r"decoder/layers.\1.cross.kv."),
    (r"^decoder/layer_(\d+)/attention/linear_2/", r"decoder/layers.\1.cross.out."),
    (r"^decoder/layer_(\d+)/attention/layer_norm/", r"decoder/layers.\1.cross_norm."),
    (r"^(en|de)coder/layer_(\d+)/ffn/linear_0/", r"\1coder/layers.\2.up."),
    (r"^(en|de)coder/layer_(\d+)/ffn/linear_1/", r"\1coder/layers.\2.down."),
    (r"^(en|de)coder/layer_(\d+)/ffn/layer_norm/", r"\1coder/layers.\2.mlp_norm."),
    (r"^(en|de)coder/layer_norm/", r"\1coder/norm."),
    (r"^encoder/(conv\d)/", r"encoder/front_end.\1."),
    (r"^decoder/embeddings(_0)?/", r"decoder/embedding."),
    (r"gamma$", "weight"),
    (r"beta$", "bias"),
    (r"^encoder/layers\.(\d+)\.", r"encoder/stack.layers.\1.block."),
    (r"/", "."),
)
"""Patterns of CTranslate2 names, applied in order."""


def from_published(published: Mapping[str, Tensor], config: WhisperConfig) -> dict[str, Tensor]:
    """Rename and stack the parameters of a published model.

    Args:
        published: by transformers' name, the leading `model.` already removed.
        config: sizes of the model.

    Raises:
        KeyError: a parameter is missing; the name says which.
    """
    ours = _copied(published, "encoder.conv1", "encoder.front_end.conv1")
    ours |= _copied(published, "encoder.conv2", "encoder.front_end.conv2")
    ours |= _copied(published, "encoder.layer_norm", "encoder.norm")
    for index in range(config.encoder_layers):
        target = f"encoder.stack.layers.{index}.block."
        ours |= _layer(published, f"encoder.layers.{index}.", target)
    ours["decoder.embedding.weight"] = published["decoder.embed_tokens.weight"]
    ours["decoder.position_LD"] = published["decoder.embed_positions.weight"]
    ours |= _copied(published, "decoder.layer_norm", "decoder.norm")
    for index in range(config.decoder_layers):
        name = f"decoder.layers.{index}."
        ours |= _layer(published, name, name) | _cross(published, name)
    return _norms_by_stride(ours)


def from_ctranslate2(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the variables of a CTranslate2 `model.bin`; float32 out."""
    ours = {"decoder.position_LD": variables["decoder/position_encodings/encodings"].float()}
    for name, value in variables.items():
        if value.dim() == 0 or any(alias in name for alias in ALIASES):
            continue
        for pattern, replacement in _CTRANSLATE2:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901
        ours[name] = value.float()
    return _norms_by_stride(ours)


def published_config(
    sizes: Mapping[str, Any], generation: Mapping[str, Any], language: str = "en"
) -> WhisperConfig:  # Any: JSON
    """Read sizes and prompt from the two JSON files that come with the published weights.

    Args:
        sizes: `config.json`.
        generation: `generation_config.json`.
        language: two letters, for models that know several.

    Raises:
        KeyError: a value is missing, or the model does not know the language.
    """
    prompt = [sizes["decoder_start_token_id"]]
    if sizes["vocab_size"] >= FEWEST_MULTILINGUAL:
        prompt.append(generation["lang_to_id"][f"<|{language}|>"])
        prompt.append(generation["task_to_id"]["transcribe"])
    prompt.append(generation["no_timestamps_token_id"])
    return WhisperConfig(
        dim=sizes["d_model"],
        inner_dim=sizes["encoder_ffn_dim"],
        num_heads=sizes["encoder_attention_heads"],
        encoder_layers=sizes["encoder_layers"],
        decoder_layers=sizes["decoder_layers"],
        vocabulary=sizes["vocab_size"],
        prompt=tuple(prompt),
        end_token=sizes["eos_token_id"],
        suppressed=tuple(generation.get("suppress_tokens") or ()),
        mels=sizes["num_mel_bins"],
        source_positions=sizes["max_source_positions"],
        target_positions=sizes["max_target_positions"],
    )


def alignment_heads(pairs: Iterable[Sequence[int]]) -> dict[str, list[int]]:
    """Group published pairs of (decoder layer, head) by layer, as `decoding.json` has them."""
    by_layer: dict[str, list[int]] = {}
    for layer, head in pairs:
        by_layer.setdefault(str(layer), []).append(head)
    return by_layer


def _layer(published: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    return {
        **_copied(published, f"{source}self_attn_layer_norm", f"{target}attention_norm"),
        **_stacked(published, f"{source}self_attn.", "qkv", f"{target}attention.qkv"),
        **_copied(published, f"{source}self_attn.out_proj", f"{target}attention.out"),
        **_copied(published, f"{source}final_layer_norm", f"{target}mlp_norm"),
        **_copied(published, f"{source}fc1", f"{target}up"),
        **_copied(published, f"{source}fc2", f"{target}down"),
    }


def _cross(published: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {
        **_copied(published, f"{name}encoder_attn_layer_norm", f"{name}cross_norm"),
        **_copied(published, f"{name}encoder_attn.q_proj", f"{name}cross.query"),
        **_stacked(published, f"{name}encoder_attn.", "kv", f"{name}cross.kv"),
        **_copied(published, f"{name}encoder_attn.out_proj", f"{name}cross.out"),
    }


def _copied(published: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    return {f"{target}.{kind}": published[f"{source}.{kind}"] for kind in ("weight", "bias")}


def _stacked(
    published: Mapping[str, Tensor], source: str, letters: str, target: str
) -> dict[str, Tensor]:
    weights = [published[f"{source}{letter}_proj.weight"] for letter in letters]
    # Keys have no bias: one would add the same to every score.
    biases = [
        torch.zeros_like(weight[:, 0])
        if letter == "k"
        else published[f"{source}{letter}_proj.bias"]
        for letter, weight in zip(letters, weights, strict=True)
    ]
    return {f"{target}.weight": torch.cat(weights), f"{target}.bias": torch.cat(biases)}


def _norms_by_stride(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the encoder layers' norms a row for each stride, all alike."""
    named: dict[str, Tensor] = {}
    for name, value in ours.items():
        if name.startswith("encoder.stack") and "_norm." in name:
            named[f"{name}_SD"] = value.expand(len(STRIDES), -1).clone()
        else:
            named[name] = value
    return named
