"""Published Moonshine parameter names to ours: queries, keys and values are stacked, norms repeated.

Names as in transformers, `models/moonshine` (Apache-2.0), which is also what the hub's safetensors
hold.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from model_store.backbones.moonshine import MoonshineConfig
from model_store.depth import STRIDES


def from_published(published: Mapping[str, Tensor], config: MoonshineConfig) -> dict[str, Tensor]:
    """Rename and stack the published parameters of an untouched (not factorised) model.

    Args:
        published: by name, the leading `model.` already removed.
        config: sizes of the model; `front_end_rank` is 0.

    Raises:
        KeyError: a parameter is missing; the name says which.
    """
    ours: dict[str, Tensor] = {}
    for conv in ("conv1", "conv2", "conv3"):
        ours[f"encoder.front_end.{conv}.weight"] = published[f"encoder.{conv}.weight"]
        if conv != "conv1":
            ours[f"encoder.front_end.{conv}.bias"] = published[f"encoder.{conv}.bias"]
    ours["encoder.front_end.norm_weight_D"] = published["encoder.groupnorm.weight"]
    ours["encoder.front_end.norm_bias_D"] = published["encoder.groupnorm.bias"]
    ours["encoder.norm.weight"] = published["encoder.layer_norm.weight"]
    for index in range(config.encoder_layers):
        ours |= _encoder_layer(published, f"encoder.layers.{index}.", index)
    ours["decoder.embedding.weight"] = published["decoder.embed_tokens.weight"]
    ours["decoder.norm.weight"] = published["decoder.norm.weight"]
    for index in range(config.decoder_layers):
        ours |= decoder_layer(published, f"decoder.layers.{index}.")
    return ours


def published_config(values: Mapping[str, object]) -> MoonshineConfig:
    """Read the sizes from the `config.json` that comes with the published weights."""

    def number(name: str) -> int:
        value = values[name]
        assert isinstance(value, int), f"expected an integer {name}, got {value!r}"
        return value

    head_dim = number("hidden_size") // number("encoder_num_attention_heads")
    rope = values.get("rope_parameters")
    share = rope.get("partial_rotary_factor", 0.9) if isinstance(rope, dict) else None
    share = values.get("partial_rotary_factor", 0.9) if share is None else share
    assert isinstance(share, float | int), f"expected a share of rotated channels, got {share!r}"
    return MoonshineConfig(
        dim=number("hidden_size"),
        inner_dim=number("intermediate_size"),
        num_heads=number("encoder_num_attention_heads"),
        encoder_layers=number("encoder_num_hidden_layers"),
        decoder_layers=number("decoder_num_hidden_layers"),
        vocabulary=number("vocab_size"),
        rotated=int(head_dim * share),
    )


def _encoder_layer(published: Mapping[str, Tensor], source: str, index: int) -> dict[str, Tensor]:
    target = f"encoder.stack.layers.{index}.block."
    norms = {
        f"{target}attention_norm.weight_SD": published[f"{source}input_layernorm.weight"],
        f"{target}mlp_norm.weight_SD": published[f"{source}post_attention_layernorm.weight"],
    }
    return {
        **{name: weight.expand(len(STRIDES), -1).clone() for name, weight in norms.items()},
        f"{target}attention.qkv.weight": stacked(published, f"{source}self_attn.", "qkv"),
        f"{target}attention.out.weight": published[f"{source}self_attn.o_proj.weight"],
        **feed_forward(published, source, target),
    }


def decoder_layer(published: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Give a decoder layer under our names; it is called the same there and here."""
    return {
        f"{name}attention_norm.weight": published[f"{name}input_layernorm.weight"],
        f"{name}attention.qkv.weight": stacked(published, f"{name}self_attn.", "qkv"),
        f"{name}attention.out.weight": published[f"{name}self_attn.o_proj.weight"],
        f"{name}cross_norm.weight": published[f"{name}post_attention_layernorm.weight"],
        f"{name}cross.query.weight": published[f"{name}encoder_attn.q_proj.weight"],
        f"{name}cross.kv.weight": stacked(published, f"{name}encoder_attn.", "kv"),
        f"{name}cross.out.weight": published[f"{name}encoder_attn.o_proj.weight"],
        f"{name}mlp_norm.weight": published[f"{name}final_layernorm.weight"],
        **feed_forward(published, name, name),
    }


def feed_forward(published: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    """Give a layer's two matrices and biases under our names."""
    return {
        f"{target}{ours}.{kind}": published[f"{source}mlp.{theirs}.{kind}"]
        for ours, theirs in (("up", "fc1"), ("down", "fc2"))
        for kind in ("weight", "bias")
    }


def stacked(published: Mapping[str, Tensor], source: str, letters: str) -> Tensor:
    """Put projections of the same input, named by their letters, on top of each other."""
    return torch.cat([published[f"{source}{letter}_proj.weight"] for letter in letters])
