"""Tiny models that score every frame, with random weights: Conformers and WavLMs as they can be set."""

import dataclasses
from collections.abc import Mapping

import torch

from model_store.backbones import CtcModule
from model_store.backbones.conformer import Conformer, ConformerConfig
from model_store.backbones.elastic import ElasticLayer
from model_store.backbones.wavlm import WavLM, WavLMConfig
from tests.numerics.backbones import NUM_LAYERS, VOCABULARY

CONFORMER = ConformerConfig(
    vocabulary=VOCABULARY,
    dim=32,
    inner_dim=48,
    num_heads=4,
    encoder_layers=NUM_LAYERS,
    kernel=7,
    mels=20,
    blank=VOCABULARY - 1,
)
STREAMING = dataclasses.replace(CONFORMER, features="log", norm="layer", causal=True)
WAVLM = WavLMConfig(
    vocabulary=VOCABULARY,
    dim=32,
    inner_dim=48,
    num_heads=4,
    encoder_layers=NUM_LAYERS,
    conv_channels=(16,) * 7,
    position_kernel=16,
    position_groups=4,
    num_buckets=32,
    max_distance=60,
    blank=VOCABULARY - 1,
)
CONFIGS: Mapping[str, ConformerConfig | WavLMConfig] = {
    "conformer": CONFORMER,
    "conformer-activated": dataclasses.replace(CONFORMER, front_end="activated"),
    "conformer-log": dataclasses.replace(CONFORMER, features="log"),
    "conformer-streaming": STREAMING,
    "wavlm": WAVLM,
    "wavlm-pre-norm": dataclasses.replace(
        WAVLM, pre_norm=True, conv_norm="layer", conv_bias=True, normalise_input=True
    ),
}


def build(name: str, *, bypass_rank: int = 4) -> CtcModule:
    """Make a model in which nothing is at its neutral start."""
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIGS[name], bypass_rank=bypass_rank)
    model = Conformer(config) if isinstance(config, ConformerConfig) else WavLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for buffer_name, buffer in model.named_buffers():
            if "running_mean" in buffer_name:
                buffer.normal_(std=0.3)
            if "running_var" in buffer_name:
                buffer.uniform_(0.5, 2.0)
    return model.eval()


def elastic_layers(model: CtcModule) -> list[ElasticLayer]:
    found = [layer for layer in model.encoder.stack.layers if isinstance(layer, ElasticLayer)]
    assert len(found) == NUM_LAYERS
    return found
