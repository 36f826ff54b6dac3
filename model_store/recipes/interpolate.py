"""Average a trained student with the one it started from: what it learned, less what it forgot.

    python -m model_store.recipes.interpolate --start DIR --trained DIR --share 0.6 --out DIR

Every parameter becomes `(1 - share) * start + share * trained`. A little speech of few speakers
pulls weights away from what the published model knew of all others; half-way back most of both is
kept. Source: Wortsman et al., Robust fine-tuning of zero-shot models, arXiv 2109.01903.
"""

import argparse
import shutil
from pathlib import Path

from model_store.checkpoint import load_checkpoint, save_checkpoint


def main() -> None:
    """Interpolate from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("start", "trained", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--share", type=float, required=True, help="of the trained weights")
    options = parser.parse_args()
    start = load_checkpoint(options.start).model.state_dict()
    trained = load_checkpoint(options.trained)
    state = trained.model.state_dict()
    trained.model.load_state_dict(
        {name: start[name].lerp(value, options.share) for name, value in state.items()}
    )
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "decoding.json"):
        if (options.trained / name).exists():
            shutil.copy(options.trained / name, options.out / name)
    save_checkpoint(trained.model, trained.catalogue, options.out)


if __name__ == "__main__":
    main()
