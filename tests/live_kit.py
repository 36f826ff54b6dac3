"""Tiny random models that write live transcripts, and something for them to hear."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from tokenizers import models, pre_tokenizers

from model_store.backbones.blocks import DecoderBlock
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.registry import Recogniser
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, VOCABULARY

Samples = npt.NDArray[np.float32]


def recogniser(folder: Path, backbone: str, *, int8: bool = False) -> Recogniser:
    """A tiny model that says many different tokens, written to a folder and read again."""
    built = BACKBONES[backbone].build()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        # Tied to its embedding, a random decoder repeats its first token whatever it hears.
        norm = built.decoder.norm
        norm.weight.copy_(torch.randn(norm.weight.shape, generator=generator))
        for layer in built.decoder.layers:
            assert isinstance(layer, DecoderBlock)
            layer.cross.out.weight.mul_(12.0)
            layer.cross.kv.weight.mul_(3.0)
            layer.cross.query.weight.mul_(4.0)
    save_checkpoint(built, PlanCatalogue.untuned(NUM_LAYERS), folder, int8=int8)
    spelling = {f"\u2581w{i}" if i % 3 else f"s{i}": i for i in range(VOCABULARY)}
    made = tokenizers.Tokenizer(models.WordLevel(spelling, unk_token="s0"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.save(str(folder / "tokenizer.json"))
    decoding = {"alignment_heads": {"0": [1], "1": [0, 2]}, "end_offset_s": -0.05}
    (folder / "decoding.json").write_text(json.dumps(decoding), encoding="utf-8")
    return Recogniser("tiny", load_checkpoint(folder), "float32")


def speech(length: int, seed: int = 0) -> Samples:
    """Noise of so many samples."""
    generator = np.random.default_rng(seed)
    return (0.1 * generator.standard_normal(length)).astype(np.float32)
