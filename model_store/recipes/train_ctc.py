r"""Train a Conformer or fine-tune a WavLM with CTC: static, dropped, distilled, with exits.

    python -m model_store.recipes.train_ctc --run RUN.toml --sizes etf4asr \
        --manifest MANIFEST ... --out DIR [--teacher DIR] [--start DIR]
    torchrun --nproc-per-node 8 -m model_store.recipes.train_ctc ...

The same command goes on where a run was stopped. Pieces of words are trained on the transcripts
where `--start` or `--teacher` brings none. When done, `OUT/student` is a checkpoint folder.
"""

import argparse
import copy
import dataclasses
import logging
import shutil
from collections.abc import Collection, Sequence
from operator import attrgetter
from pathlib import Path

import torch
from torch import distributed

from model_store.backbones import CtcModule
from model_store.backbones.conformer import ETF4ASR, LDASR, STREAMING, Conformer, ConformerConfig
from model_store.backbones.parameters import BY_STRIDE
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import STRIDES, DepthPlan, PlanCatalogue
from model_store.errors import RunConfigError
from model_store.text.bpe import train_bpe
from model_store.text.tokens import Tokenizer
from model_store.training.config import (
    LossConfig,
    OptimiserConfig,
    RunConfig,
    SamplingConfig,
    load_run,
)
from model_store.training.ctc import CtcObjective, SpokenBatches, ctc_groups
from model_store.training.loop import Trainer
from model_store.training.manifest import Utterance, training_utterances
from model_store.training.ranks import Ranks, join_ranks
from model_store.training.start import begin_ctc

SMALL = ConformerConfig(
    vocabulary=64,
    dim=144,
    inner_dim=576,
    num_heads=4,
    encoder_layers=6,
    features="log",
    norm="layer",
    dropout=0.05,
    wrapped_targets=False,
)
"""For a processor: 3 M parameters, and pieces so small that a few hours of speech teach them."""

SIZES = {"ldasr": LDASR, "etf4asr": ETF4ASR, "streaming": STREAMING, "small": SMALL}
TOKENS_FILE = "tokenizer.json"
UNREAD = (
    "data.weights", "data.augment", "data.cut", "data.cut_margin_s",
    "loss.features", "loss.features_per", "loss.features_of", "loss.end",
    "optimiser.decoder", "optimiser.decoder_parts", "optimiser.norms", "optimiser.bypass",
    "selector",
)  # fmt: skip
"""Settings of other trainings; all but the losses, which are off, have to be as they come."""


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
    config = load_run(options.run)
    refuse_unread(config, started=options.start is not None)
    ranks = join_ranks()
    torch.manual_seed(config.seed)
    utterances = [u for m in options.manifest for u in training_utterances(m, leave_out=True)]
    brought = options.start or options.teacher
    if ranks.first:
        prepare_tokens(utterances, brought, options.out, SIZES[options.sizes].vocabulary)
    ranks.wait()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given = _ctc(options.start) if options.start else Conformer(SIZES[options.sizes])
    student = begin_ctc(given, config)
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
        strides = drawn_strides(config.sampling)
        offered = ladder_of(strides, trained.num_layers)
        save_checkpoint(with_strides(trained, strides), offered, target)

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


def drawn_strides(sampling: SamplingConfig) -> frozenset[int]:
    """Give the strides that layers run at in training; 1 is always among them."""
    drawn = {1}
    for source in sampling.plans:
        if source.weight or source.weight_end:
            if source.kind == "strides":
                drawn.update(source.strides)
            elif source.kind == "fixed":
                drawn.update(filter(None, DepthPlan.parse(source.plan).strides))
    return frozenset(drawn)


def ladder_of(strides: Collection[int], num_layers: int) -> PlanCatalogue:
    """Give what a model that was trained at these strides offers before anything was measured."""
    untuned = PlanCatalogue.untuned(num_layers)
    ladder = tuple(plan for plan in untuned.ladder if plan.strides[0] in strides)
    return dataclasses.replace(untuned, ladder=ladder)


def with_strides(trained: CtcModule, strides: Collection[int]) -> CtcModule:
    """Give a copy whose other strides, which the policy `uniform` still asks for, have stride 1's norms."""
    served = copy.deepcopy(trained)
    undrawn = [place for place, stride in enumerate(STRIDES) if stride not in strides]
    with torch.no_grad():
        for name, value in served.state_dict().items():
            if name.endswith(BY_STRIDE):
                value[undrawn] = value[0].clone()
    return served


def refuse_unread(config: RunConfig, *, started: bool) -> None:
    """Refuse settings that would change nothing here.

    Args:
        config: the run.
        started: whether it goes on from a checkpoint.

    Raises:
        RunConfigError: a setting is given that CTC training does not read.
    """
    if config.encoder == "scratch" and started:
        raise RunConfigError('expected encoder = "given" beside --start, got "scratch"')
    unset = RunConfig(
        seed=config.seed,
        sampling=config.sampling,
        optimiser=OptimiserConfig(steps=config.optimiser.steps),
        loss=LossConfig(features=0.0, end=0.0),
    )
    for name in UNREAD:
        got, expected = attrgetter(name)(config), attrgetter(name)(unset)
        if got != expected:
            raise RunConfigError(
                f"expected {name} = {expected!r} of a CTC run, which reads none, got {got!r}"
            )


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
