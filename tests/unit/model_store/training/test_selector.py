"""Training the selector: gradients reach it, gates keep the budget, and a gated pass is the plain one."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

from model_store.backbones.moonshine import Moonshine
from model_store.depth import DepthPlan, DepthSchedule
from model_store.depth.selector import MODES, UNITS, reachable_units
from model_store.recipes.train_selector import selected, train_selector
from model_store.training.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    OptimiserConfig,
    PlanSource,
    RunConfig,
    SamplingConfig,
    SelectorConfig,
)
from model_store.training.data import Batch, Batches
from model_store.training.loop import STATE_FILE
from model_store.training.objective import Depth
from model_store.training.selector import (
    SelectedModel,
    SelectorNetwork,
    SelectorObjective,
    encode_gated,
    features,
    gates,
)
from tests.training_kit import NUM_LAYERS, noise, references, student

pytestmark = pytest.mark.timeout(120)

RUN = RunConfig(
    seed=3,
    sampling=SamplingConfig(
        plans=(PlanSource(kind="skip", weight=1.0, kept=(1, 2)),), full_context=1.0
    ),
    optimiser=OptimiserConfig(steps=4, warmup_steps=1),
    loss=LossConfig(features=0.0, kl=0.0, task=1.0, end=0.05),
    data=DataConfig(batch_s=4.0, cut=0.0, augment=AugmentConfig(noise=0.0)),
    report_steps=1,
    evaluate_steps=2,
    save_s=0.0,
)


class Stopped(Exception):
    """A run that is interrupted right after it was saved."""


def made_batches() -> Batches:
    return Batches({"made": references()}, noise(), student(), RUN.data, RUN.seed)


def made_batch() -> Batch:
    return next(made_batches().steps())


def beginning(run: RunConfig = RUN) -> SelectedModel:
    torch.manual_seed(run.seed)
    return selected(student(), run, made_batches())


def trained(folder: Path, run: RunConfig = RUN, *, stop: bool = False) -> SelectedModel:
    learner = beginning(run)

    def report(step: int, _: SelectedModel) -> None:
        if stop:
            raise Stopped(step)

    train_selector(learner, made_batches(), run, folder, report)
    return learner


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(MODES)), st.integers(2, 8), st.floats(0.1, 1), st.integers(0, 9_999), st.booleans()
)  # fmt: skip
def test_gates_keep_the_budget_exactly_and_choose_one_stride_a_layer(
    mode: str, layers: int, share: float, seed: int, noisy: bool
) -> None:
    strides = MODES[mode]
    draw = torch.Generator().manual_seed(seed)
    scores_BLO = torch.randn(3, layers, len(strides), generator=draw)

    chosen_BLO = gates(scores_BLO, strides, share * layers, gumbel=draw if noisy else None)

    each = torch.tensor([1 / stride if stride else 0.0 for stride in strides])
    units = reachable_units(layers, strides, share * layers)
    torch.testing.assert_close((chosen_BLO * each).sum((1, 2)), torch.full((3,), units / UNITS))
    torch.testing.assert_close(chosen_BLO.sum(-1), torch.ones(3, layers))


def test_noise_tries_other_plans() -> None:
    scores_BLO = torch.zeros(64, 6, 2)

    chosen_BLO = gates(scores_BLO, MODES["skip"], 3.0, gumbel=torch.Generator().manual_seed(0))

    assert len(np.unique(chosen_BLO[:, :, 1].round().numpy(), axis=0)) > 5


@pytest.mark.parametrize("plan", ["1,1,1", "1,0,1", "0,2,4", "2,2,8", "0,0,1"])
def test_a_gated_pass_with_one_plan_for_all_is_the_plain_one(plan: str) -> None:
    model, batch = student(), made_batch()
    model.eval()
    strides = (0, 1, 2, 4, 8)
    wanted = DepthPlan.parse(plan)
    gates_BLO = torch.zeros(len(batch.samples_BS), NUM_LAYERS, len(strides))
    for layer, stride in enumerate(wanted.strides):
        gates_BLO[:, layer, strides.index(stride)] = 1

    with torch.no_grad():
        gated = encode_gated(model, batch.samples_BS, batch.num_samples_B, gates_BLO, strides)
        plain = model.encode(batch.samples_BS, batch.num_samples_B, DepthSchedule.constant(wanted))

    for row, num_frames in enumerate(plain.num_frames_B):
        frames = int(num_frames)
        torch.testing.assert_close(
            gated.states_BTD[row, :frames], plain.states_BTD[row, :frames], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("gumbel", [False, True])
def test_gradients_reach_every_weight_of_the_selector(mode: str, gumbel: bool) -> None:
    torch.manual_seed(0)
    learner = SelectedModel(student(), SelectorNetwork(NUM_LAYERS, mode))
    depth = Depth(DepthSchedule.constant(DepthPlan((1, 1, 0))))

    loss, _ = SelectorObjective(gumbel=gumbel)(
        learner, made_batch(), depth, RUN.loss, torch.Generator().manual_seed(0)
    )
    loss.backward()

    for name, parameter in learner.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    per_layer = learner.network.score.weight.grad
    assert per_layer is not None
    assert (per_layer.unflatten(0, (NUM_LAYERS, -1)).abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize("mode", sorted(MODES))
def test_what_is_shipped_scores_as_what_was_trained(mode: str) -> None:
    torch.manual_seed(1)
    network = SelectorNetwork(NUM_LAYERS, mode)
    heard = [torch.randn(20_000) * 0.1, torch.randn(9_000)]
    network.fit_features(features(heard, 2.0, NUM_LAYERS))

    expected_BLO = network(features(heard, 2.0, NUM_LAYERS)).detach().numpy()
    served = network.shipped()

    for samples_S, expected_LO in zip(heard, expected_BLO, strict=True):
        found_LO = served.scores(samples_S.numpy(), 2.0)
        np.testing.assert_allclose(found_LO, expected_LO, atol=1e-4)


def test_frozen_only_the_selector_learns_and_jointly_both_do(tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in beginning().state_dict().items()}
    joint = dataclasses.replace(RUN, selector=SelectorConfig(model="joint", gumbel=True))

    frozen_after = trained(tmp_path / "frozen").state_dict()
    joint_after = trained(tmp_path / "joint", joint).state_dict()

    def changed(after: dict[str, torch.Tensor]) -> set[str]:
        names = {name for name, value in after.items() if not torch.equal(value, before[name])}
        return {name.split(".")[0] for name in names}

    assert changed(frozen_after) == {"network"}
    assert changed(joint_after) == {"network", "model"}


def test_an_interrupted_run_arrives_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, selector=SelectorConfig(gumbel=True))
    trained(tmp_path / "whole", run)
    with pytest.raises(Stopped, match="2"):
        trained(tmp_path / "parts", run, stop=True)
    trained(tmp_path / "parts", run)

    whole, parts = (load_file(tmp_path / name / STATE_FILE) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_moonshine_is_what_is_selected_of() -> None:
    assert isinstance(beginning().model, Moonshine)
