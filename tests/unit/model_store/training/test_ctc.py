"""CTC training: every method takes steps, two ranks train as one, and a stopped run goes on."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

from model_store.backbones.conformer import Conformer, ConformerConfig
from model_store.checkpoint import load_checkpoint
from model_store.depth import STRIDES, DepthPlan, DepthSchedule
from model_store.errors import RunConfigError
from model_store.recipes import train_ctc
from model_store.recipes.train_ctc import TOKENS_FILE, prepare_tokens, train
from model_store.text.tokens import Tokenizer
from model_store.training.config import (
    DataConfig,
    LossConfig,
    OptimiserConfig,
    PlanSource,
    RunConfig,
    SamplingConfig,
)
from model_store.training.ctc import (
    CtcBatch,
    CtcObjective,
    SpokenBatches,
    ctc_groups,
    states_at_exits,
)
from model_store.training.loop import STATE_FILE, Trainer, learning_rate
from model_store.training.manifest import Utterance, write_manifest
from model_store.training.objective import Depth
from model_store.training.ranks import ALONE, Ranks
from model_store.training.start import begin_ctc

pytestmark = pytest.mark.timeout(180)

TINY = ConformerConfig(
    vocabulary=48, dim=32, inner_dim=48, num_heads=2, encoder_layers=3, kernel=7, mels=20,
    features="log", norm="layer", dropout=0.0,
)  # fmt: skip
TEXTS = ("one two three", "two three", "three one one two", "one two", "two two one", "three")
CTC = LossConfig(features=0.0, kl=0.0, task=1.0, end=0.0)
FULL = PlanSource(kind="full", weight=1.0)
HALF = PlanSource(kind="bernoulli", weight=1.0, keep=0.5)


def run_of(loss: LossConfig, source: PlanSource = FULL) -> RunConfig:
    return RunConfig(
        seed=5,
        sampling=SamplingConfig(plans=(source,), full_context=1.0),
        optimiser=OptimiserConfig(steps=3, warmup_steps=1, layers=1e-3, decay="noam"),
        loss=loss,
        data=DataConfig(batch_s=4.0),
        report_steps=1,
        evaluate_steps=99,
    )


METHODS = {
    "static": run_of(CTC),
    "dropping": run_of(CTC, HALF),
    "distilled": run_of(replace(CTC, kl=1.0), HALF),
    "distilled, summed": run_of(replace(CTC, kl=1.0, kl_per="utterance"), HALF),
    "early exit": run_of(replace(CTC, exits=(1, 2))),
    "early exit, self-distilled": run_of(replace(CTC, exits=(1, 2), exit_kl=1.0)),
    "dropping, intermediate": run_of(replace(CTC, exits=(1, 2), exit_task=0.3), HALF),
    "strides": run_of(CTC, PlanSource(kind="strides", weight=1.0, strides=(1, 2, 4))),
}


def conformer(seed: int = 0, **changes: Any) -> Conformer:
    torch.manual_seed(seed)
    return Conformer(replace(TINY, **changes))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    folder = tmp_path_factory.mktemp("spoken")
    draw = np.random.default_rng(0)
    made: list[Utterance] = []
    for index, text in enumerate(TEXTS):
        seconds = 1.0 + 0.2 * index
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.1 * draw.standard_normal(round(16_000 * seconds)), 16_000)
        made.append(Utterance(f"{folder.name}/{index}", path, seconds, "nobody", text))
    write_manifest(made, folder / "manifest.tsv", "train")
    return made


@pytest.fixture(scope="module")
def tokens(spoken: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    prepare_tokens(spoken, None, folder, TINY.vocabulary)
    return folder


def trained(
    spoken: list[Utterance], tokens: Path, run: RunConfig, out: Path, **changes: Any
) -> Conformer:
    prepare_tokens(spoken, tokens, out, TINY.vocabulary)
    student, teacher = conformer(**changes), conformer(9).eval() if run.loss.kl else None
    train(student, teacher, spoken, run, out, ALONE)
    return student


def batch_of(spoken: list[Utterance], tokens: Path) -> CtcBatch:
    tokenizer = Tokenizer.from_file(tokens / TOKENS_FILE)
    return next(SpokenBatches(spoken, tokenizer, conformer(), 9.0, 0).steps())


def loss_of(name: str, batch: CtcBatch, plan: str = "1,0,1") -> float:
    config = METHODS[name].loss
    depth = Depth(DepthSchedule.constant(DepthPlan.parse(plan)))
    teacher = conformer(9).eval() if config.kl else None
    loss, _ = CtcObjective(teacher)(conformer(), batch, depth, config, torch.Generator())
    return float(loss.detach())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_three_steps_of_finite_loss(
    name: str, spoken: list[Utterance], tokens: Path, tmp_path: Path
) -> None:
    student = trained(spoken, tokens, METHODS[name], tmp_path)

    lines = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(math.isfinite(line["task"]) for line in lines)
    assert any(
        not torch.equal(value, conformer().state_dict()[name_])
        for name_, value in student.state_dict().items()
    )
    again = load_checkpoint(tmp_path / "student")
    assert isinstance(again.module, Conformer)


def test_the_methods_losses_differ_as_they_should(spoken: list[Utterance], tokens: Path) -> None:
    batch = batch_of(spoken, tokens)

    loss = {name: loss_of(name, batch) for name in METHODS}

    assert loss["distilled"] > loss["dropping"] == loss["static"]
    assert loss["distilled, summed"] > loss["distilled"]
    assert loss["early exit"] > loss["dropping, intermediate"] > loss["dropping"]
    assert loss["early exit, self-distilled"] > loss["early exit"]


def test_an_exit_reads_what_a_truncated_plan_gives(spoken: list[Utterance], tokens: Path) -> None:
    batch, student = batch_of(spoken, tokens), conformer(exits=(1, 2)).eval()
    with torch.no_grad():
        for layer in student.encoder.stack.layers:
            layer.final_norm.weight.normal_(1.0, 0.3)  # pyright: ignore # noqa: PGH003 a norm twice is not the norm

    with torch.no_grad():
        full = Depth(DepthSchedule.constant(DepthPlan.full(3)))
        _, at_exits = states_at_exits(student, batch, full, (1, 2, 3))
        alone = [
            student(batch.samples_BS, batch.num_samples_B, DepthPlan.keeping(range(layers), 3))
            for layers in (1, 2, 3)
        ]

    for exit_BTD, run in zip(at_exits, alone, strict=True):
        valid_BT = torch.arange(exit_BTD.shape[1]) < run.num_frames_B[:, None]
        torch.testing.assert_close(exit_BTD[valid_BT], run.states_BTD[valid_BT])


@pytest.mark.parametrize(
    ("plan", "layers"), [("1,0,0", 1), ("1,1,0", 3), ("0,1,0", 3), ("1,0,1", 3), ("1,1,1", 3)]
)
def test_only_the_first_layers_up_to_an_exit_are_read_there(plan: str, layers: int) -> None:
    assert conformer(exits=(1,)).encoder.read_after(DepthPlan.parse(plan)) == layers


def test_the_kl_needs_a_teacher(spoken: list[Utterance], tokens: Path) -> None:
    depth = Depth(DepthSchedule.constant(DepthPlan.full(3)))

    with pytest.raises(RunConfigError, match="teacher"):
        CtcObjective()(
            conformer(),
            batch_of(spoken, tokens),
            depth,
            METHODS["distilled"].loss,
            torch.Generator(),
        )


def test_targets_are_wrapped_as_the_papers_are(spoken: list[Utterance], tokens: Path) -> None:
    batch = batch_of(spoken, tokens)

    ends_B = batch.token_BU.gather(1, batch.num_tokens_B[:, None] - 1)
    assert (batch.token_BU[:, 0] == 1).all()
    assert (ends_B == 2).all()


def test_an_utterance_that_says_nothing_is_left_out(spoken: list[Utterance], tokens: Path) -> None:
    silent = replace(spoken[0], id="a/silent", transcript="  ")
    tokenizer = Tokenizer.from_file(tokens / TOKENS_FILE)
    assert tokenizer.encode(silent.transcript) == []

    batch = next(SpokenBatches([silent, spoken[1]], tokenizer, conformer(), 9.0, 0).steps())

    assert len(batch.token_BU) == 1
    assert batch.token_BU.dtype == torch.long


def test_what_an_exit_is_taught_is_divided_as_the_kl_is(
    spoken: list[Utterance], tokens: Path
) -> None:
    batch, full = batch_of(spoken, tokens), Depth(DepthSchedule.constant(DepthPlan.full(3)))
    config = METHODS["early exit, self-distilled"].loss
    found = [
        CtcObjective()(conformer(), batch, full, changed, torch.Generator())[1]["kl_exit1"]
        for changed in (config, replace(config, kl_per="utterance"))
    ]

    frames_B = conformer().num_frames(batch.num_samples_B)
    assert found[1] == pytest.approx(found[0] * int(frames_B.sum()) / len(frames_B), rel=1e-4)


def test_norms_and_means_do_not_decay() -> None:
    student = conformer()
    names = {id(p): name for name, p in student.named_parameters()}

    decaying, others = ctc_groups(student, OptimiserConfig(steps=1))

    groups: list[set[str]] = [{names[id(p)] for p in g["params"]} for g in (decaying, others)]  # pyright: ignore # noqa: PGH003 a list of parameters
    assert set.union(*groups) == set(names.values())
    assert not any("_SD" in name or "_RD" in name or "norm" in name for name in groups[0])
    assert "head.weight" in groups[0]


def test_utterances_without_text_are_no_corpus(tokens: Path) -> None:
    silent = [Utterance("a/b", Path("none"), 1.0, "", "")]

    with pytest.raises(RunConfigError, match="transcribed"):
        SpokenBatches(silent, Tokenizer.from_file(tokens / TOKENS_FILE), conformer(), 4.0, 0)


def test_an_interrupted_run_arrives_where_an_uninterrupted_one_does(
    spoken: list[Utterance], tokens: Path, tmp_path: Path
) -> None:
    run = METHODS["dropping"]
    shorter = replace(run, optimiser=replace(run.optimiser, steps=2))

    trained(spoken, tokens, run, tmp_path / "whole", dropout=0.1)
    trained(spoken, tokens, shorter, tmp_path / "parts", dropout=0.1)
    trained(spoken, tokens, run, tmp_path / "parts", dropout=0.1)

    whole, parts = (load_file(tmp_path / name / STATE_FILE) for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_goes_on_where_its_parameters_are(
    spoken: list[Utterance], tokens: Path, tmp_path: Path
) -> None:
    run = METHODS["dropping"]
    shorter = replace(run, optimiser=replace(run.optimiser, steps=2))
    prepare_tokens(spoken, tokens, tmp_path, TINY.vocabulary)

    for part in (shorter, run):
        train(conformer().cuda(), None, spoken, part, tmp_path, ALONE)

    assert len((tmp_path / "log.jsonl").read_text("utf-8").splitlines()) == 3


def untrained(_: object) -> None:
    pass


def test_the_ranks_share_a_step(
    spoken: list[Utterance], tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard_s: list[float] = []

    class Recorded(SpokenBatches):
        def __init__(self, *given: Any) -> None:
            heard_s.append(given[3])
            super().__init__(*given)

    monkeypatch.setattr(train_ctc, "SpokenBatches", Recorded)
    monkeypatch.setattr(Trainer, "run", untrained)
    prepare_tokens(spoken, tokens, tmp_path, TINY.vocabulary)

    for ranks in (ALONE, Ranks(1, 4)):
        train(conformer(), None, spoken, METHODS["static"], tmp_path, ranks)

    assert heard_s == [4.0, 1.0]


def test_a_student_with_exits_comes_back_from_its_checkpoint(
    spoken: list[Utterance], tokens: Path, tmp_path: Path
) -> None:
    run = METHODS["early exit"]
    prepare_tokens(spoken, tokens, tmp_path, TINY.vocabulary)

    train(begin_ctc(conformer(), run), None, spoken, run, tmp_path, ALONE)

    again = load_checkpoint(tmp_path / "student").module
    assert isinstance(again, Conformer)
    assert again.config.exits == (1, 2)


def test_a_model_offers_the_strides_that_it_was_trained_at(
    spoken: list[Utterance], tokens: Path, tmp_path: Path
) -> None:
    for name, strides in (("dropping", {1}), ("strides", {1, 2, 4})):
        student = trained(spoken, tokens, METHODS[name], tmp_path / name)
        again = load_checkpoint(tmp_path / name / "student")

        assert {plan.strides for plan in again.catalogue.ladder} == {(s,) * 3 for s in strides}
        undrawn = [place for place, stride in enumerate(STRIDES) if stride not in strides]
        before, after = student.state_dict(), again.module.state_dict()
        rows = {name: value for name, value in after.items() if name.endswith("_SD")}
        assert rows
        for row, value in rows.items():
            assert all(torch.equal(value[place], value[0]) for place in undrawn)
            assert torch.equal(value[0], before[row][0])


def test_noam_rises_to_its_peak_and_falls_by_the_root() -> None:
    config = OptimiserConfig(steps=10_000, warmup_steps=100, decay="noam")

    assert learning_rate(99, config) == pytest.approx(1.0)
    assert learning_rate(399, config) == pytest.approx(0.5)
    assert learning_rate(9, config) == pytest.approx(0.1)


PROGRAM = """
import sys, torch
from pathlib import Path
from safetensors.torch import save_file
sys.path.insert(0, {root!r})
from model_store.training.manifest import read_manifest
from model_store.training.ranks import join_ranks
from tests.unit.model_store.training.test_ctc import METHODS, conformer
from model_store.recipes.train_ctc import train
torch.set_num_threads(1)
ranks = join_ranks()
student = conformer(ranks.place)  # other weights on each rank, so that only the broadcast makes them one
out = Path({out!r})
train(student, None, read_manifest(Path({manifest!r})), METHODS["dropping"], out, ranks)
save_file(student.state_dict(), out / f"rank{{ranks.place}}.safetensors")
"""


def test_two_ranks_train_one_student(spoken: list[Utterance], tokens: Path, tmp_path: Path) -> None:
    program, out = tmp_path / "program.py", tmp_path / "out"
    prepare_tokens(spoken, tokens, out, TINY.vocabulary)
    root = Path(__file__).parents[4]
    manifest = spoken[0].path.parent / "manifest.tsv"
    program.write_text(
        PROGRAM.format(root=str(root), out=str(out), manifest=str(manifest)), encoding="utf-8"
    )

    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
         "0", "--standalone", str(program)],
        capture_output=True, text=True, check=False, timeout=150, cwd=root,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    one, other = (load_file(out / f"rank{place}.safetensors") for place in (0, 1))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert len((out / "log.jsonl").read_text("utf-8").splitlines()) == 3
