"""The papers' ways of training side by side: each takes steps, and each differs where it should."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from model_store.backbones.moonshine import Moonshine
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue
from model_store.errors import RunConfigError
from model_store.training.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    OptimiserConfig,
    PlanSource,
    RunConfig,
    SamplingConfig,
)
from model_store.training.data import Batch, Batches
from model_store.training.loop import Trainer
from model_store.training.objective import forced, forced_at_exits, objective
from model_store.training.start import begin
from tests.training_kit import NUM_LAYERS, RUN, TINY, noise, references, student

pytestmark = pytest.mark.timeout(120)

PLAIN = LossConfig(features=0.0, kl=0.0, task=1.0, end=0.05)
DLD = dataclasses.replace(PLAIN, kl=1.0)
FULL = PlanSource(kind="full", weight=1.0)


def run_of(loss: LossConfig, source: PlanSource = FULL, **changes: object) -> RunConfig:
    run = RunConfig(
        seed=3,
        sampling=SamplingConfig(plans=(source,), full_context=1.0),
        optimiser=OptimiserConfig(steps=3, warmup_steps=1),
        loss=loss,
        data=DataConfig(batch_s=4.0, cut=0.0, augment=AugmentConfig(noise=0.0, gain_db=(0.0, 0.0))),
        report_steps=1,
        evaluate_steps=99,
    )
    return dataclasses.replace(run, **changes)


METHODS = {
    "static": run_of(PLAIN),
    "static of 2 layers": run_of(PLAIN, keep_layers=2),
    "dropping 0.5": run_of(PLAIN, PlanSource(kind="bernoulli", weight=1.0, keep=0.5)),
    "dropping 0.2": run_of(PLAIN, PlanSource(kind="bernoulli", weight=1.0, keep=0.8)),
    "distilled": run_of(DLD, PlanSource(kind="bernoulli", weight=1.0, keep=0.5)),
    "distilled, summed": run_of(
        dataclasses.replace(DLD, kl_per="utterance"),
        PlanSource(kind="bernoulli", weight=1.0, keep=0.5),
    ),
    "distilled, warm": run_of(
        dataclasses.replace(DLD, kl_temperature=2.0),
        PlanSource(kind="bernoulli", weight=1.0, keep=0.5),
    ),
    "distilled, from scratch": run_of(
        DLD, PlanSource(kind="bernoulli", weight=1.0, keep=0.5), encoder="scratch"
    ),
    "early exit": run_of(dataclasses.replace(PLAIN, exits=(1, 2))),
    "early exit, self-distilled": run_of(dataclasses.replace(PLAIN, exits=(1, 2), exit_kl=1.0)),
    "strides": run_of(PLAIN, PlanSource(kind="strides", weight=1.0, strides=(1, 2, 4))),
    "strides, distilled": run_of(DLD, PlanSource(kind="strides", weight=1.0, strides=(1, 2, 4))),
}


def made_batch(run: RunConfig = RUN) -> Batch:
    batches = Batches({"made": references()}, noise(), student(), run.data, run.seed)
    return next(batches.steps())


def trained(run: RunConfig, folder: Path) -> Moonshine:
    given = Moonshine(dataclasses.replace(TINY, bypass_rank=0))
    given.load_state_dict(
        {name: value for name, value in student().state_dict().items() if "bypass" not in name}
    )
    with torch.no_grad():
        for layer in given.decoder.layers:
            layer.cross.out.weight.mul_(30)  # pyright: ignore # noqa: PGH003 so that the encoder is heard
    learner = begin(given, run)
    assert isinstance(learner, Moonshine)
    batches = Batches({"made": references()}, noise(), learner, run.data, run.seed)
    Trainer(learner, batches, run, folder, lambda _step, _student: None).run()
    return learner


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for name, run in METHODS.items():
        folder = tmp_path_factory.mktemp("method")
        trained(run, folder)
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        found[name] = [json.loads(line) for line in lines]
    return found


def total(line: dict[str, Any]) -> float:
    by_plan: dict[str, float] = line["by_plan"]
    return next(iter(by_plan.values()))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_three_steps_of_finite_loss(
    name: str, logs: dict[str, list[dict[str, Any]]]
) -> None:
    assert [line["step"] for line in logs[name]] == [1, 2, 3]
    assert all(math.isfinite(total(line)) for line in logs[name])


def test_the_methods_first_losses_differ(logs: dict[str, list[dict[str, Any]]]) -> None:
    first = {name: total(lines[0]) for name, lines in logs.items()}

    # The teacher's part is above what the task alone costs, on the same plan, batch and weights.
    assert first["distilled"] > first["dropping 0.5"]
    assert first["distilled, summed"] > first["distilled"]
    assert first["early exit, self-distilled"] > first["early exit"] > 2 * first["static"]
    assert first["distilled, warm"] != first["distilled"] != first["distilled, from scratch"]
    assert first["strides, distilled"] > first["strides"] != first["static of 2 layers"]


def test_dropping_draws_plans_and_a_static_model_does_not(
    logs: dict[str, list[dict[str, Any]]],
) -> None:
    plans = {name: [str(line["by_plan"]) for line in lines] for name, lines in logs.items()}

    assert all("1,1,1" in plan for plan in plans["static"])
    assert all("1,1'" in plan for plan in plans["static of 2 layers"])
    assert any("0" in plan.split("'")[1] for plan in plans["dropping 0.5"])
    assert any("2" in plan.split("'")[1] or "4" in plan.split("'")[1] for plan in plans["strides"])


def test_without_a_teacher_its_posteriors_change_nothing() -> None:
    batch = made_batch()
    without = dataclasses.replace(
        batch,
        targets=dataclasses.replace(
            batch.targets, top_logp_BUK=torch.full_like(batch.targets.top_logp_BUK, -3.0)
        ),
    )
    full = DepthSchedule.constant(DepthPlan.full(NUM_LAYERS))
    both = [objective(student(), one, full, None, PLAIN)[0] for one in (batch, without)]

    assert torch.equal(*both)


def test_an_exit_is_what_a_truncated_plan_gives() -> None:
    run = run_of(dataclasses.replace(PLAIN, exits=(1, 2)))
    learner = begin(Moonshine(dataclasses.replace(TINY, bypass_rank=0)), run)
    assert isinstance(learner, Moonshine)
    with torch.no_grad():
        for norm in learner.encoder.exit_norms.values():
            norm.weight.normal_(1.0, 0.1)  # pyright: ignore[reportCallIssue]
    batch = made_batch()
    full = DepthSchedule.constant(DepthPlan.full(NUM_LAYERS))

    with torch.no_grad():
        _, at_exits = forced_at_exits(learner, batch, full, None, (1, 2))
        for layers, logits_BUV in enumerate(at_exits, start=1):
            plan = DepthPlan.keeping(range(layers), NUM_LAYERS)
            _, alone_BUV = forced(learner, batch, DepthSchedule.constant(plan), None)
            torch.testing.assert_close(logits_BUV, alone_BUV)


def test_a_static_model_is_the_first_layers_of_what_it_begins_as() -> None:
    given = Moonshine(dataclasses.replace(TINY, bypass_rank=0)).eval()
    learner = begin(given, run_of(PLAIN, keep_layers=2))
    batch = made_batch()

    with torch.no_grad():
        states = learner.encode(
            batch.samples_BS, batch.num_samples_B, DepthSchedule.constant(DepthPlan.full(2))
        )
        plan = DepthSchedule.constant(DepthPlan.keeping((0, 1), NUM_LAYERS))
        expected = given.encode(batch.samples_BS, batch.num_samples_B, plan)

    assert learner.num_layers == 2
    torch.testing.assert_close(states.states_BTD, expected.states_BTD)


def test_from_scratch_only_the_layers_are_new() -> None:
    given = student()
    before = {name: value.clone() for name, value in given.state_dict().items()}

    after = begin(given, run_of(PLAIN, encoder="scratch")).state_dict()

    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("encoder.stack.layers.") for name in changed)


def test_from_scratch_strides_and_bypasses_do_nothing_yet() -> None:
    given = student()
    untrained = {n: v.clone() for n, v in given.state_dict().items() if _changes_nothing(n)}
    with torch.no_grad():
        for parameter in given.encoder.stack.parameters():
            parameter.add_(0.5)

    after = begin(given, run_of(PLAIN, encoder="scratch")).state_dict()

    assert any("pool_RD" in name for name in untrained)
    assert any("bypass.up" in name for name in untrained)
    for name, value in untrained.items():
        assert torch.equal(after[name], value), name


def _changes_nothing(name: str) -> bool:
    parts = ("pool_RD", "give_RD", "bypass.up", "norm")
    return name.startswith("encoder.stack.") and any(part in name for part in parts)


def test_a_student_with_exits_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    learner = begin(student(), run_of(dataclasses.replace(PLAIN, exits=(1, 2))))
    save_checkpoint(learner, PlanCatalogue.untuned(NUM_LAYERS), tmp_path)

    again = load_checkpoint(tmp_path).model

    assert isinstance(again, Moonshine)
    assert again.config.exits == (1, 2)
    assert again.state_dict().keys() == learner.state_dict().keys()


@pytest.mark.parametrize(
    "run",
    [run_of(PLAIN, keep_layers=9), run_of(dataclasses.replace(PLAIN, exits=(3,)))],
    ids=["kept", "exit"],
)
def test_layers_that_are_not_there_are_refused(run: RunConfig) -> None:
    with pytest.raises(RunConfigError):
        begin(student(), run)


def test_exits_that_a_student_lacks_are_refused() -> None:
    full = DepthSchedule.constant(DepthPlan.full(NUM_LAYERS))

    with pytest.raises(RunConfigError, match="exits"):
        forced_at_exits(student(), made_batch(), full, None, (1,))


def test_padding_does_not_reach_an_exit() -> None:
    learner = begin(student(), run_of(dataclasses.replace(PLAIN, exits=(1, 2))))
    assert isinstance(learner, Moonshine)
    rows = [torch.randn(9_000), torch.randn(16_000)]
    samples_BS = pad_sequence(rows, batch_first=True)
    lengths_B = torch.tensor([len(row) for row in rows])
    full = DepthSchedule.constant(DepthPlan.full(NUM_LAYERS))

    with torch.no_grad():
        together = list(learner.encode_each(samples_BS, lengths_B, full))
        alone = list(learner.encode_each(rows[0][None], lengths_B[:1], full))

    for both, one in zip(together, alone, strict=True):
        frames = int(one.num_frames_B[0])
        torch.testing.assert_close(
            both.states_BTD[0, :frames], one.states_BTD[0, :frames], atol=1e-5, rtol=1e-4
        )
