"""Convert published Moonshine Streaming weights to a checkpoint folder, which training starts from.

    python -m model_store.recipes.convert_moonshine_streaming --model FOLDER --out DIR

FOLDER is as the hub holds it: `config.json`, `model.safetensors`, `tokenizer.json`.
"""

import argparse
import shutil
from pathlib import Path

from model_store.backbones.moonshine_streaming import (
    FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    MoonshineStreaming,
)
from model_store.checkpoint import save_checkpoint
from model_store.depth import DepthPlan
from model_store.errors import CheckpointError
from model_store.registry.names import published_checkpoint


def main() -> None:
    """Run the conversion from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = convert(options.model, options.out)
    frames = model.lookahead_frames(DepthPlan.full(model.num_layers))
    lookahead_s = frames * FRAME_SAMPLES / SAMPLE_RATE_HZ
    print(f"{model.num_layers} layers, look-ahead {lookahead_s:g} s at full depth")


def convert(folder: Path, out: Path) -> MoonshineStreaming:
    """Write a published folder's weights, tokens and untuned plans as a checkpoint; give the model.

    Raises:
        CheckpointError: the folder is not one of Moonshine Streaming.
    """
    checkpoint = published_checkpoint(folder)
    model = checkpoint.model
    if not isinstance(model, MoonshineStreaming):
        raise CheckpointError(f"expected a moonshine_streaming model, got {model.backbone}")
    save_checkpoint(model, checkpoint.catalogue, out)
    shutil.copy(folder / "tokenizer.json", out / "tokenizer.json")
    return model


if __name__ == "__main__":
    main()
