r"""Train a student by distillation-based layer dropping, from the references of its teacher.

    python -m model_store.recipes.distill --run RUN.toml --start DIR --references DIR \
        --noise MANIFEST --out DIR

The same command goes on where a run was stopped. `--start` is an untrained student (see
`factorise`) or shipped weights. When done, `OUT/student` is a checkpoint folder.
"""

import argparse
import logging
import shutil
from pathlib import Path

import torch

from model_store.backbones import SpeechModule
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.training.config import load_run
from model_store.training.data import Batches, load_corpora, load_noise
from model_store.training.loop import Trainer
from model_store.training.progress import ProgressWer
from model_store.training.start import begin


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    for name in ("start", "references", "noise", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument(
        "--watch", type=Path, nargs="*", default=[], help="manifests to follow WER on"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    config = load_run(options.run)
    torch.manual_seed(config.seed)
    checkpoint = load_checkpoint(options.start)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = begin(checkpoint.model, config).to(device)
    batches = Batches(
        load_corpora(options.references),
        load_noise(options.noise),
        student,
        config.data,
        config.seed,
    )
    progress = ProgressWer(options.watch, checkpoint, student.num_layers, options.out)

    def report(step: int, trained: SpeechModule) -> None:
        progress.report(step, trained)
        _export(options.start, options.out / "student", trained)

    Trainer(student, batches, config, options.out, report).run()


def _export(start: Path, target: Path, student: SpeechModule) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "decoding.json"):
        shutil.copy(start / name, target / name)
    num_layers = student.num_layers
    given = load_checkpoint(start).catalogue
    catalogue = given if given.num_layers == num_layers else PlanCatalogue.untuned(num_layers)
    save_checkpoint(student, catalogue, target)


if __name__ == "__main__":
    main()
