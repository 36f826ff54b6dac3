r"""Train the network that picks an utterance's layers, on a model whose layers may be dropped.

    python -m model_store.recipes.train_selector --run RUN.toml --model DIR --references DIR \
        --noise MANIFEST --out DIR

The same command goes on where a run was stopped. When done, `OUT/student` is the checkpoint with
`selector.safetensors` in it, which is what `policy=input` serves.
"""

import argparse
import itertools
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from model_store.backbones.moonshine import Moonshine
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth.selector_file import save_selector
from model_store.errors import RunConfigError
from model_store.training.config import RunConfig, load_run
from model_store.training.data import Batches, load_corpora, load_noise
from model_store.training.loop import Groups, Trainer, parameter_groups
from model_store.training.selector import (
    SelectedModel,
    SelectorNetwork,
    SelectorObjective,
    features,
)

FITTED_BATCHES = 20


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    for name in ("model", "references", "noise", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    config = load_run(options.run)
    torch.manual_seed(config.seed)
    checkpoint = load_checkpoint(options.model)
    model = checkpoint.model
    if not isinstance(model, Moonshine):
        raise RunConfigError(f"expected a Moonshine to select layers of, got {model.backbone}")
    corpora, noise_S = load_corpora(options.references), load_noise(options.noise)
    batches = Batches(corpora, noise_S, model, config.data, config.seed)
    student = selected(model, config, batches)

    def report(step: int, trained: SelectedModel) -> None:
        del step
        target = options.out / "student"
        target.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "decoding.json"):
            shutil.copy(options.model / name, target / name)
        save_checkpoint(trained.model, checkpoint.catalogue, target)
        save_selector(trained.network.shipped(), target)

    train_selector(student, batches, config, options.out, report)


def selected(model: Moonshine, config: RunConfig, batches: Batches) -> SelectedModel:
    """Put an untrained selector beside a model, its features brought to one scale."""
    network = SelectorNetwork(model.num_layers, config.selector.mode)
    first = list(itertools.islice(batches.steps(), FITTED_BATCHES))
    heard = [
        row_S[:length]
        for batch in first
        for row_S, length in zip(batch.samples_BS, batch.num_samples_B.tolist(), strict=True)
    ]
    network.fit_features(features(heard, 1.0, model.num_layers))
    return SelectedModel(model, network)


def train_selector(
    student: SelectedModel,
    batches: Batches,
    config: RunConfig,
    folder: Path,
    report: Callable[[int, SelectedModel], None],
) -> None:
    """Train from the step reached to the last one."""
    wanted = config.selector
    objective = SelectorObjective(gumbel=wanted.gumbel, first_chunk=wanted.first_chunk)
    groups = selector_groups(student, config)
    Trainer(student, batches, config, folder, report, objective=objective, groups=groups).run()


def selector_groups(student: SelectedModel, config: RunConfig) -> Groups:
    """Give what is trained: the selector, and with `joint` the model at its own rates."""
    rate = config.selector.rate
    own: dict[str, object] = {
        "params": list(student.network.parameters()),
        "lr": rate,
        "peak": rate,
        "weight_decay": config.optimiser.weight_decay,
    }
    if config.selector.model == "joint":
        return [own, *parameter_groups(student.model, config.optimiser)]
    freeze(student.model)
    return [own]


def freeze(model: nn.Module) -> None:
    """Keep a model as it is; gradients pass through it to what chose its layers."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # noqa: FBT003


if __name__ == "__main__":
    main()
