"""A small Moonshine Streaming with random weights, in which nothing is at its neutral start."""

import dataclasses
from pathlib import Path

import torch

from model_store.backbones.moonshine_streaming import MoonshineStreaming, MoonshineStreamingConfig
from model_store.checkpoint import save_checkpoint
from model_store.depth import PlanCatalogue
from tests.numerics.backbones import END, NUM_LAYERS, PROMPT, VOCABULARY, write_tokenizer

FRAME_SAMPLES = 320
CONFIG = MoonshineStreamingConfig(
    dim=32,
    inner_dim=48,
    num_heads=4,
    head_dim=6,
    windows=((15, 3), (15, 0), (15, 3)),
    decoder_dim=24,
    decoder_inner_dim=40,
    decoder_heads=4,
    decoder_layers=2,
    vocabulary=VOCABULARY,
    rotated=4,
    memory_positions=300,
    memory_pool=2,
    bypass_rank=4,
    start_token=PROMPT[0],
    end_token=END,
)


def built(**changes: object) -> MoonshineStreaming:
    """Build the small model, some of its sizes changed."""
    torch.manual_seed(0)
    model = MoonshineStreaming(dataclasses.replace(CONFIG, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def saved(folder: Path, **changes: object) -> Path:
    """Write the small model, with places for half a minute, as a checkpoint; give its folder."""
    model = built(**({"memory_positions": 1500} | changes))
    save_checkpoint(model, PlanCatalogue.untuned(NUM_LAYERS), folder)
    write_tokenizer(folder)
    return folder
