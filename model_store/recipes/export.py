"""Write a trained checkpoint as it is shipped: int8 per row, with its tokens, plans and heads.

python -m model_store.recipes.export --model DIR --out model_store/weights/NAME
"""

import argparse
import shutil
from pathlib import Path

from model_store.checkpoint import load_checkpoint, save_checkpoint


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.model)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "decoding.json"):
        if (options.model / name).exists():
            shutil.copy(options.model / name, options.out / name)
    save_checkpoint(checkpoint.model, checkpoint.catalogue, options.out, int8=True)
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out.name}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
