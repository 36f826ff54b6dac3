r"""Measure what the inputs of matrices reach on speech, and store it beside the weights.

    python -m model_store.recipes.measure_activations --model DIR --manifest SET/manifest.tsv [...]

A LayerNorm's output is large in a few channels, always the same ones; rounded to bytes by its
largest value, a row has few steps left for the others. Whoever builds int8 products divides
those channels by what is measured here and multiplies the weights behind them (SmoothQuant, arXiv
2211.10438). Measured at every plan on offer, on held-out speech; the dev sets are left out by
whoever names the manifests.
"""

import argparse
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from model_store.depth import DepthPlan
from model_store.registry import Recogniser, load
from model_store.training.measure import Recording, hear, held_out_recordings

ACTIVATIONS = "activations.safetensors"
REACHED = ".reached_K"
BEHIND_NORMS = (".attention.qkv", ".block.up")

Floats = npt.NDArray[np.float32]


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--every", type=int, default=4, help="take every n-th utterance of a set")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(str(options.model))
    recordings = [r for path in options.manifest for r in held_out_recordings(path, options.every)]
    reached = measure(model, recordings, model.catalogue.ladder)
    if not reached:
        raise SystemExit(f"expected matrices behind norms in {model.name!r}'s encoder, got none")
    save_file(
        {f"{name}{REACHED}": value for name, value in reached.items()}, options.model / ACTIVATIONS
    )
    print(f"{len(reached)} matrices on {len(recordings)} utterances: {ACTIVATIONS}")


def measure(
    model: Recogniser, recordings: Sequence[Recording], plans: Sequence[DepthPlan]
) -> Mapping[str, Floats]:
    """Give the largest absolute value that each input of the encoder's matrices takes, by name.

    Shapes:
        out: (K,) for a matrix of K inputs.
    """
    with _watched(model.module) as reached:
        for plan in plans:
            hear(model, recordings, plan)
    return {name: value.cpu().numpy() for name, value in sorted(reached.items())}


@contextmanager
def _watched(module: nn.Module) -> Generator[dict[str, Tensor]]:
    reached: dict[str, Tensor] = {}

    def watch(name: str, product: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_product: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found_K = inputs[0].detach().float().abs().flatten(0, -2).amax(dim=0)
            known_K = reached.get(name)
            reached[name] = found_K if known_K is None else torch.maximum(known_K, found_K)

        return product.register_forward_pre_hook(note)

    handles = [
        watch(name, product)
        for name, product in module.named_modules()
        if name.startswith("encoder.") and name.endswith(BEHIND_NORMS)
    ]
    try:
        yield reached
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    main()
