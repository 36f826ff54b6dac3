import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from model_store.backbones import SpeechModule
from model_store.training.config import RunConfig, from_table
from model_store.training.data import Batches
from model_store.training.loop import (
    STATE_FILE,
    Report,
    Trainer,
    learning_rate,
    parameter_groups,
)
from tests.training_kit import RUN, noise, references, student

# The first optimiser makes torch import its compiler, which takes seconds, once.
pytestmark = pytest.mark.timeout(120)


class Stopped(Exception):
    """A run that is interrupted right after it was saved."""


def go_on(step: int, _: SpeechModule) -> None:
    pass


def stop(step: int, _: SpeechModule) -> None:
    raise Stopped(step)


def trained(folder: Path, run: RunConfig = RUN, report: Report = go_on) -> SpeechModule:
    learner = student()
    batches = Batches({"made": references()}, noise(), learner, run.data, run.seed)
    Trainer(learner, batches, run, folder, report).run()
    return learner


def states_equal(one: SpeechModule, other: SpeechModule) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(value, again) for (a, value), (b, again) in pairs)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeechModule, Path]:
    folder = tmp_path_factory.mktemp("run")
    return trained(folder), folder


def test_an_interrupted_run_arrives_where_an_uninterrupted_one_does(
    uninterrupted: tuple[SpeechModule, Path], tmp_path: Path
) -> None:
    with pytest.raises(Stopped, match="3"):
        trained(tmp_path, report=stop)

    resumed = trained(tmp_path)

    assert states_equal(resumed, uninterrupted[0])
    state, expected = load_file(tmp_path / STATE_FILE), load_file(uninterrupted[1] / STATE_FILE)
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


def test_one_seed_gives_one_model(uninterrupted: tuple[SpeechModule, Path], tmp_path: Path) -> None:
    assert states_equal(trained(tmp_path), uninterrupted[0])


def test_another_seed_gives_another_model(
    uninterrupted: tuple[SpeechModule, Path], tmp_path: Path
) -> None:
    other = trained(tmp_path, dataclasses.replace(RUN, seed=4))

    assert not states_equal(other, uninterrupted[0])


def test_a_finished_run_is_not_trained_further(
    uninterrupted: tuple[SpeechModule, Path], tmp_path: Path
) -> None:
    trained(tmp_path)

    assert states_equal(trained(tmp_path, report=stop), uninterrupted[0])


def test_front_end_and_embedding_stay_as_they_are(
    uninterrupted: tuple[SpeechModule, Path],
) -> None:
    before, after = student().state_dict(), uninterrupted[0].state_dict()

    changed = {name for name in before if not torch.equal(before[name], after[name])}
    kept = set(before) - changed

    assert not any(name.startswith("encoder.front_end") for name in changed)
    assert "decoder.embedding.weight" in kept
    assert {"encoder.norm.weight", "decoder.pool_RD", "decoder.layers.0.up.weight"} <= changed
    for part in ("block.up", "block.attention_norm", "give_RD.2", "bypass.up"):
        assert any(part in name for name in changed), f"expected {part} to be trained"


def test_the_resolved_run_is_saved_beside_the_checkpoint(
    uninterrupted: tuple[SpeechModule, Path],
) -> None:
    saved = json.loads((uninterrupted[1] / "config.json").read_text(encoding="utf-8"))

    assert from_table(RunConfig, saved, "saved") == RUN


def test_the_log_tells_losses_and_plans(uninterrupted: tuple[SpeechModule, Path]) -> None:
    lines = (uninterrupted[1] / "log.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [json.loads(line) for line in lines]

    assert [line["step"] for line in logged] == [2, 4, 6]
    assert all({"kl", "task", "features", "end", "by_plan"} <= set(line) for line in logged)
    assert all(line["audio_s"] > 0 for line in logged)


def test_reports_come_at_their_steps(tmp_path: Path) -> None:
    seen: list[int] = []

    trained(tmp_path, dataclasses.replace(RUN, evaluate_steps=2), lambda s, _: seen.append(s))

    assert seen == [2, 4, 6]


def test_every_trained_parameter_has_one_rate() -> None:
    learner = student()
    groups = parameter_groups(learner, RUN.optimiser)

    grouped: list[Tensor] = [p for group in groups for p in group["params"]]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType] a list of parameters
    frozen = [name for name, p in learner.named_parameters() if not p.requires_grad]

    assert len({id(p) for p in grouped}) == len(grouped)
    assert len(grouped) + len(frozen) == len(list(learner.parameters()))
    assert all(n.startswith("encoder.front_end") or "embedding" in n for n in frozen)
    assert [group["peak"] for group in groups] == [1e-4, 2e-5, 5e-4, 1e-3]


def test_rates_rise_to_their_peak_and_fall_to_nothing() -> None:
    optimiser = dataclasses.replace(RUN.optimiser, steps=100, warmup_steps=10)
    rates = [learning_rate(step, optimiser) for step in range(100)]

    assert rates[0] == 0.1
    assert rates[9] == rates[10] == 1
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01
