"""Published Moonshine Streaming names to ours: projections are stacked, norms repeated by stride.

Names as in transformers, `models/moonshine_streaming` (Apache-2.0), which is also what the hub's
safetensors hold.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from model_store.backbones.moonshine_names import decoder_layer, feed_forward, stacked
from model_store.backbones.moonshine_streaming import MoonshineStreamingConfig
from model_store.depth import STRIDES

FRONT_END = {
    "comp.log_k": "log_scale",
    "linear.weight": "step.weight",
    "conv1.weight": "conv1.weight",
    "conv1.bias": "conv1.bias",
    "conv2.weight": "conv2.weight",
    "conv2.bias": "conv2.bias",
}

ENCODER_ALWAYS = {
    "hidden_act": "gelu",
    "attention_bias": False,
    "sample_rate": 16_000,
    "frame_ms": 5.0,
}
"""What every published encoder has; another value would be another architecture."""

DECODER_ALWAYS = {"hidden_act": "silu", "attention_bias": False}
ROTARY_ALWAYS = {"rope_type": "default", "rope_theta": 10_000.0}


def from_published(
    published: Mapping[str, Tensor], config: MoonshineStreamingConfig
) -> dict[str, Tensor]:
    """Rename and stack the published parameters.

    Args:
        published: by name, the leading `model.` already removed.
        config: sizes of the model.

    Raises:
        KeyError: a parameter is missing; the name says which.
    """
    ours = {
        f"encoder.front_end.{own}": published[f"encoder.embedder.{theirs}"]
        for theirs, own in FRONT_END.items()
    }
    # The encoder's norms are stored as what they differ from 1 by.
    ours["encoder.norm.weight"] = published["encoder.final_norm.gamma"] + 1
    for index in range(len(config.windows)):
        target = f"encoder.stack.layers.{index}.block."
        ours |= _encoder_layer(published, f"encoder.layers.{index}.", target)
    ours["decoder.position_TD"] = published["decoder.pos_emb.weight"]
    if config.dim != config.decoder_dim:
        ours["decoder.bridge.weight"] = published["decoder.proj.weight"]
    ours["decoder.embedding.weight"] = published["decoder.embed_tokens.weight"]
    ours["decoder.norm.weight"] = published["decoder.norm.weight"]
    for index in range(config.decoder_layers):
        ours |= decoder_layer(published, f"decoder.layers.{index}.")
    if not config.tied_head:
        ours["decoder.head.weight"] = published["proj_out.weight"]
    return ours


def published_config(values: Mapping[str, Any]) -> MoonshineStreamingConfig:  # Any: JSON
    """Read the sizes from the `config.json` that comes with the published weights.

    `sliding_windows` counts a frame itself among those before it, and its second number is the
    first distance ahead that is no longer heard: (16, 4) is 15 back and 3 ahead, which is what
    transformers computes.

    Raises:
        KeyError: a size is missing; the name says which.
        TypeError, ValueError: a value is none that these models have.
    """
    encoder, rotary = _table(values, "encoder_config"), _table(values, "rope_parameters")
    for found, always in (
        (encoder, ENCODER_ALWAYS),
        (values, DECODER_ALWAYS),
        (rotary, ROTARY_ALWAYS),
    ):
        for name, expected in always.items():
            _expect(name, found.get(name, expected), expected)
    for side in (encoder, values):
        heads = side["num_attention_heads"]
        _expect("num_key_value_heads", side.get("num_key_value_heads", heads), heads)
    dim, heads = _number(values, "hidden_size"), _number(values, "num_attention_heads")
    # Only the encoder's heads may fill more or fewer channels than there are.
    _expect("head_dim", values.get("head_dim") or dim / heads, dim / heads)
    windows = [(int(back), int(ahead)) for back, ahead in encoder["sliding_windows"]]
    _expect("num_hidden_layers", _number(encoder, "num_hidden_layers"), len(windows))
    started = values.get("decoder_start_token_id") is not None
    return MoonshineStreamingConfig(
        dim=_number(encoder, "hidden_size"),
        inner_dim=_number(encoder, "intermediate_size"),
        num_heads=_number(encoder, "num_attention_heads"),
        head_dim=_number(encoder, "head_dim"),
        windows=tuple((back - 1, max(0, ahead - 1)) for back, ahead in windows),
        decoder_dim=dim,
        decoder_inner_dim=_number(values, "intermediate_size"),
        decoder_heads=heads,
        decoder_layers=_number(values, "num_hidden_layers"),
        vocabulary=_number(values, "vocab_size"),
        rotated=int(dim // heads * rotary.get("partial_rotary_factor", 1.0)),
        memory_positions=_number(values, "max_position_embeddings"),
        tied_head=bool(values.get("tie_word_embeddings", False)),
        start_token=_number(values, "decoder_start_token_id" if started else "bos_token_id"),
        end_token=_number(values, "eos_token_id"),
    )


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values[name]
    if not isinstance(value, dict):
        raise TypeError(f"expected an object {name}, got {value!r}")
    return value


def _number(values: Mapping[str, Any], name: str) -> int:
    value = values[name]
    if not isinstance(value, int):
        raise TypeError(f"expected an integer {name}, got {value!r}")
    return value


def _expect(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"expected {name} {expected!r}, got {found!r}")


def _encoder_layer(published: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    norms = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    return {
        **{
            f"{target}{own}.weight_SD": (published[f"{source}{theirs}.gamma"] + 1)
            .expand(len(STRIDES), -1)
            .clone()
            for own, theirs in norms.items()
        },
        f"{target}attention.qkv.weight": stacked(published, f"{source}self_attn.", "qkv"),
        f"{target}attention.out.weight": published[f"{source}self_attn.o_proj.weight"],
        **feed_forward(published, source, target),
    }
