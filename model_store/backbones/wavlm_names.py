"""Published WavLM models to ours: transformers reads their files, and names are turned here.

Queries, keys and values are stacked, norms get a row for each stride, the position convolution's
weight norm is worked out, and layer 0's table of relative biases becomes the encoder's own.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_store.backbones.wavlm import WavLMConfig
from model_store.depth import STRIDES
from model_store.errors import CheckpointError

HEAD = "lm_head."
_WEIGHT_NORM = ("parametrizations.weight.original0", "parametrizations.weight.original1")


def read_wavlm(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:  # Any: JSON
    """Read a folder as the hub holds it: safetensors or pickled weights, whole or in parts.

    Returns:
        `config.json`, what `preprocessor_config.json` says of the input added, and the weights by
        transformers' names without the leading `wavlm.`; `lm_head` among them where there is one.

    Raises:
        CheckpointError: transformers is not installed, or cannot read the folder.
    """
    try:
        from transformers import WavLMForCTC, WavLMModel  # an extra, and seconds
    except ImportError as error:
        raise CheckpointError("expected the extra `hub` to read a WavLM, got none") from error
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        with_head = "WavLMForCTC" in (values.get("architectures") or ())
        reference: Any = (WavLMForCTC if with_head else WavLMModel).from_pretrained(folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"expected a WavLM in {folder.name!r}, got other files") from error
    state = {name.removeprefix("wavlm."): value for name, value in reference.state_dict().items()}
    sizes: dict[str, Any] = reference.config.to_dict()
    preprocessor = folder / "preprocessor_config.json"
    if preprocessor.is_file():
        sizes["do_normalize"] = json.loads(preprocessor.read_text("utf-8")).get("do_normalize")
    return sizes, state


def published_config(sizes: Mapping[str, Any]) -> WavLMConfig:  # Any: JSON
    """Read the sizes.

    Args:
        sizes: `config.json`, with `do_normalize` of `preprocessor_config.json`.

    Raises:
        KeyError: a value is missing.
        CheckpointError: the model has parts that ours has not.
    """
    if sizes.get("add_adapter"):
        raise CheckpointError("expected a WavLM without an adapter, got one with")
    activations = {sizes["hidden_act"], sizes["feat_extract_activation"]}
    if activations != {"gelu"}:
        raise CheckpointError(f"expected a WavLM with GELU, got {sorted(activations)}")
    return WavLMConfig(
        vocabulary=sizes["vocab_size"],
        dim=sizes["hidden_size"],
        inner_dim=sizes["intermediate_size"],
        num_heads=sizes["num_attention_heads"],
        encoder_layers=sizes["num_hidden_layers"],
        conv_channels=tuple(sizes["conv_dim"]),
        conv_kernels=tuple(sizes["conv_kernel"]),
        conv_strides=tuple(sizes["conv_stride"]),
        conv_bias=sizes["conv_bias"],
        conv_norm=sizes["feat_extract_norm"],
        position_kernel=sizes["num_conv_pos_embeddings"],
        position_groups=sizes["num_conv_pos_embedding_groups"],
        num_buckets=sizes["num_buckets"],
        max_distance=sizes["max_bucket_distance"],
        pre_norm=sizes["do_stable_layer_norm"],
        normalise_input=bool(sizes.get("do_normalize", False)),
        eps=sizes["layer_norm_eps"],
        dropout=sizes["hidden_dropout"],
        attention_dropout=sizes["attention_dropout"],
        inner_dropout=sizes["activation_dropout"],
        blank=sizes["pad_token_id"],
    )


def from_published(published: Mapping[str, Tensor], config: WavLMConfig) -> dict[str, Tensor]:
    """Rename and stack the parameters of a published model, its read-out where it has one.

    Raises:
        KeyError: a parameter is missing; the name says which.
    """
    ours = _front_end(published, config)
    ours |= _copied(published, "encoder.layer_norm", "encoder.norm")
    ours["encoder.relative.bias_NH"] = published["encoder.layers.0.attention.rel_attn_embed.weight"]
    for index in range(config.encoder_layers):
        target = f"encoder.stack.layers.{index}.block."
        ours |= _layer(published, f"encoder.layers.{index}.", target)
    if f"{HEAD}weight" in published:
        ours |= _copied(published, "lm_head", "head")
    return ours


def _front_end(published: Mapping[str, Tensor], config: WavLMConfig) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    target = "encoder.front_end."
    for index in range(len(config.conv_channels)):
        source = f"feature_extractor.conv_layers.{index}."
        kinds = ("weight", "bias") if config.conv_bias else ("weight",)
        ours |= _copied(published, f"{source}conv", f"{target}convolutions.{index}", kinds)
        if index == 0 or config.conv_norm == "layer":
            ours |= _copied(published, f"{source}layer_norm", f"{target}norms.{index}")
    ours |= _copied(published, "feature_projection.layer_norm", f"{target}projection_norm")
    ours |= _copied(published, "feature_projection.projection", f"{target}projection")
    position = "encoder.pos_conv_embed.conv."
    size, direction = (published[position + name] for name in _WEIGHT_NORM)
    # One length for each place of the kernel (dim 2), over all channels.
    length = direction.norm(dim=(0, 1), keepdim=True)
    ours[f"{target}position.weight"] = size * direction / length
    ours[f"{target}position.bias"] = published[f"{position}bias"]
    return ours


def _layer(published: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        stacked = [published[f"{source}attention.{letter}_proj.{kind}"] for letter in "qkv"]
        ours[f"{target}attention.qkv.{kind}"] = torch.cat(stacked)
        for norm, name in (("layer_norm", "attention_norm"), ("final_layer_norm", "mlp_norm")):
            row = published[f"{source}{norm}.{kind}"]
            ours[f"{target}{name}.{kind}_SD"] = row.expand(len(STRIDES), -1).clone()
    ours |= _copied(published, f"{source}attention.out_proj", f"{target}attention.out")
    ours |= _copied(published, f"{source}attention.gru_rel_pos_linear", f"{target}attention.gate")
    scale = published[f"{source}attention.gru_rel_pos_const"].flatten()
    ours[f"{target}attention.gate_scale_H"] = scale
    ours |= _copied(published, f"{source}feed_forward.intermediate_dense", f"{target}up")
    return ours | _copied(published, f"{source}feed_forward.output_dense", f"{target}down")


def _copied(
    published: Mapping[str, Tensor],
    source: str,
    target: str,
    kinds: tuple[str, ...] = ("weight", "bias"),
) -> dict[str, Tensor]:
    return {f"{target}.{kind}": published[f"{source}.{kind}"] for kind in kinds}
