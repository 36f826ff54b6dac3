"""Tiny random checkpoints on disk, for the engine that reads them without torch."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_store.checkpoint import save_checkpoint
from model_store.depth import PlanCatalogue
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, noise, write_tokenizer

Samples = npt.NDArray[np.float32]

HEADS = {"0": [1, 2], "1": [0]}


def write_checkpoint(folder: Path, backbone: str, *, heads: bool = True, int8: bool = True) -> Path:
    """Write a tiny model as it is shipped: weights, plans, tokens, alignment heads."""
    model = BACKBONES[backbone].build()
    save_checkpoint(model, PlanCatalogue.untuned(NUM_LAYERS), folder, int8=int8)
    write_tokenizer(folder)
    if heads:
        decoding = {"alignment_heads": HEADS, "end_offset_s": -0.05}
        (folder / "decoding.json").write_text(json.dumps(decoding), encoding="utf-8")
    return folder


def windows(*lengths: int) -> list[Samples]:
    """Noise of these lengths, each of its own."""
    return [noise(length, seed=length)[0][0].numpy() for length in lengths]
