"""What a run of CTC training says is done or refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model_store.errors import RunConfigError
from model_store.recipes import train_ctc
from model_store.recipes.train_ctc import refuse_unread
from model_store.training.config import (
    AugmentConfig,
    DataConfig,
    OptimiserConfig,
    RunConfig,
    SelectorConfig,
    load_run,
)
from model_store.training.start import begin_ctc
from tests.unit.model_store.training.test_ctc import CTC, METHODS, conformer, run_of

FULL_SCALE = sorted((Path(train_ctc.__file__).parent / "runs" / "full").glob("*.toml"))
STATIC = METHODS["static"]


def test_a_static_student_is_the_first_layers_of_what_it_begins_as() -> None:
    given = conformer()
    student = begin_ctc(given, replace(METHODS["static"], keep_layers=2))

    assert student.num_layers == 2
    known = given.state_dict()
    assert all(torch.equal(value, known[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize(
    "run",
    [replace(METHODS["static"], keep_layers=4), run_of(replace(CTC, exits=(3,)))],
    ids=["kept", "exit"],
)
def test_layers_that_are_not_there_are_refused(run: RunConfig) -> None:
    with pytest.raises(RunConfigError, match="layer"):
        begin_ctc(conformer(), run)


@pytest.mark.parametrize(
    ("run", "named"),
    [
        (replace(STATIC, data=DataConfig(weights={"a": 2.0})), "data.weights"),
        (replace(STATIC, data=DataConfig(augment=AugmentConfig(room=0.5))), "data.augment"),
        (replace(STATIC, data=DataConfig(cut=0.5)), "data.cut"),
        (run_of(replace(CTC, features=1.0)), "loss.features"),
        (run_of(replace(CTC, end=0.05)), "loss.end"),
        (replace(STATIC, optimiser=OptimiserConfig(steps=3, decoder=1e-3)), "optimiser.decoder"),
        (replace(STATIC, optimiser=OptimiserConfig(steps=3, norms=1e-3)), "optimiser.norms"),
        (replace(STATIC, optimiser=OptimiserConfig(steps=3, bypass=1e-2)), "optimiser.bypass"),
        (replace(STATIC, selector=SelectorConfig(gumbel=True)), "selector"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_nothing_reads_are_refused(run: RunConfig, named: str) -> None:
    with pytest.raises(RunConfigError, match=f"expected {named} "):
        refuse_unread(run, started=False)


def test_a_start_is_not_from_scratch() -> None:
    run = replace(STATIC, encoder="scratch")

    refuse_unread(run, started=False)
    with pytest.raises(RunConfigError, match="--start"):
        refuse_unread(run, started=True)


@pytest.mark.parametrize("path", FULL_SCALE, ids=lambda path: path.stem)
def test_full_scale_runs_say_nothing_that_is_not_read(path: Path) -> None:
    refuse_unread(load_run(path), started=True)
