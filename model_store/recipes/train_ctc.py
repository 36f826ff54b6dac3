r"""Train a Conformer or fine-tune a WavLM with CTC: static, dropped, distilled, with exits.

    python -m model_store.recipes.train_ctc --run RUN.toml --sizes etf4asr \
        --manifest MANIFEST ... --out DIR [--teacher DIR] [--start DIR]
    torchrun --nproc-per-node 8 -m model_store.recipes.train_ctc ...

The same command goes on where a run was stopped. Pieces of words are trained on the transcripts
where `--start` or `--teacher` brings none. When done, `OUT/student` is a checkpoint folder.
"""

import argparse
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import distributed

from model_store.backbones import CtcModule
from model_store.backbones.conformer import ETF4ASR, LDASR, STREAMING, Conformer, ConformerConfig
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.errors import RunConfigError
from model_store.text.bpe import train_bpe
from model_store.text.tokens import Tokenizer
from model_store.training.config import RunConfig, load_run
from model_store.training.ctc import CtcObjective, SpokenBatches, ctc_groups
from model_store.training.loop import Trainer
from model_store.training.manifest import Utterance, training_utterances
from model_store.training.ranks import Ranks, join_ranks

SMALL = ConformerConfig(
    vocabulary=256,
    dim=144,
    inner_dim=576,
    num_heads=4,
    encoder_layers=6,
    features="log",
    norm="layer",
    wrapped_targets=False,
)
"""For a processor: 3 M parameters."""

SIZES = {"ldasr": LDASR, "etf4asr": ETF4ASR, "streaming": STREAMING, "small": SMALL}
TOKENS_FILE = "tokenizer.json"


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--sizes", choices=sorted(SIZES), default="etf4asr")
    parser.add_argument("--manifest", type=Path, nargs="+", required=True)
    parser.add_argument("--start", type=Path, help="a CTC checkpoint to go on from")
    parser.add_argument("--teacher", type=Path, help="a static CTC checkpoint to distil")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    config, ranks = load_run(options.run), join_ranks()
    torch.manual_seed(config.seed)
    utterances = [u for m in options.manifest for u in training_utterances(m, leave_out=True)]
    brought = options.start or options.teacher
    if ranks.first:
        prepare_tokens(utterances, brought, options.out, SIZES[options.sizes].vocabulary)
    ranks.wait()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = _ctc(options.start) if options.start else Conformer(SIZES[options.sizes])
    teacher = _ctc(options.teacher).to(device).eval() if options.teacher else None
    train(student.to(device), teacher, utterances, config, options.out, ranks)
    if ranks.size > 1:
        distributed.destroy_process_group()


def train(
    student: CtcModule,
    teacher: CtcModule | None,
    utterances: Sequence[Utterance],
    config: RunConfig,
    out: Path,
    ranks: Ranks,
) -> None:
    """Train from the step reached to the last one; the tokens lie in `out` already.

    The ranks share `batch_s`, so that a step is as large and a run as long on any number of them.
    """
    tokenizer = Tokenizer.from_file(out / TOKENS_FILE)
    batch_s = config.data.batch_s / ranks.size
    batches = SpokenBatches(utterances, tokenizer, student, batch_s, config.seed)

    def report(step: int, trained: CtcModule) -> None:
        del step
        target = out / "student"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / TOKENS_FILE, target / TOKENS_FILE)
        save_checkpoint(trained, PlanCatalogue.untuned(trained.num_layers), target)

    Trainer(
        student,
        batches,
        config,
        out,
        report,
        objective=CtcObjective(teacher),
        groups=ctc_groups(student, config.optimiser),
        ranks=ranks,
    ).run()


def prepare_tokens(
    utterances: Sequence[Utterance], brought: Path | None, out: Path, vocabulary: int
) -> None:
    """Write `tokenizer.json` into the run's folder, unless it is there."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / TOKENS_FILE
    if target.exists():
        return
    if brought is not None:
        shutil.copy(brought / TOKENS_FILE, target)
        return
    train_bpe((item.transcript for item in utterances), vocabulary).save(str(target))


def _ctc(folder: Path) -> CtcModule:
    module = load_checkpoint(folder).module
    if not isinstance(module, CtcModule):
        raise RunConfigError(f"expected a model with a CTC read-out, got {module.backbone}")
    return module


if __name__ == "__main__":
    main()
