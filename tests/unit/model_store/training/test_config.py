import dataclasses
import json
from pathlib import Path

import pytest

import model_store
from model_store.errors import RunConfigError
from model_store.training.config import (
    OptimiserConfig,
    PlanSource,
    RunConfig,
    SamplingConfig,
    from_table,
    load_run,
    to_table,
)
from tests.training_kit import RUN

RUNS = sorted((Path(model_store.__file__).parent / "recipes" / "runs").rglob("*.toml"))

LEAST = """
seed = 1
[optimiser]
steps = 5
[[sampling.plans]]
kind = "fixed"
plan = "1,1"
weight = 1
"""


def run_of(text: str, folder: Path) -> RunConfig:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return load_run(path)


def test_runs_are_shipped() -> None:
    assert RUNS


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shipped_run_loads_and_comes_back_from_what_is_saved(path: Path) -> None:
    run = load_run(path)

    saved = json.loads(json.dumps(to_table(run)))

    assert from_table(RunConfig, saved, "saved") == run


def share_of_full_depth(path: Path, num_layers: int) -> float:
    plans = load_run(path).sampling.plans
    found = 0.0
    for source in plans:
        whole = 1.0
        if source.kind == "strides":
            whole = (source.strides.count(1) / len(source.strides)) ** num_layers
        if source.kind == "bernoulli":  # drawn again where no layer is kept
            whole = source.keep**num_layers / (1 - (1 - source.keep) ** num_layers)
        found += source.weight * whole
    return found / sum(source.weight for source in plans)


@pytest.mark.parametrize(
    ("folder", "num_layers", "names"),
    [
        ("methods", 6, ("dropping-50", "dld*", "strides-*")),
        ("conformer", 6, ("dropping-50", "dld", "strides-*")),
        ("full", 12, ("librispeech-dropping", "librispeech-dld*", "librispeech-strides")),
    ],
)
def test_compared_runs_train_full_depth_as_often(
    folder: str, num_layers: int, names: tuple[str, ...]
) -> None:
    compared = [
        p
        for p in RUNS
        if p.parent.name == folder and any(p.match(f"{name}.toml") for name in names)
    ]

    assert len(compared) >= 4
    for path in compared:
        share = share_of_full_depth(path, num_layers)
        assert share == pytest.approx(1 / (2**num_layers - 1), rel=0.02), path.stem


def test_a_run_comes_back_from_what_is_saved_beside_its_checkpoint() -> None:
    saved = json.loads(json.dumps(to_table(RUN)))

    assert from_table(RunConfig, saved, "saved") == RUN


def test_the_least_a_run_says_is_completed(tmp_path: Path) -> None:
    run = run_of(LEAST, tmp_path)

    assert run == RunConfig(
        seed=1,
        optimiser=OptimiserConfig(steps=5),
        sampling=SamplingConfig(plans=(PlanSource(kind="fixed", plan="1,1", weight=1.0),)),
    )
    assert isinstance(run.sampling.plans[0].weight, float)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sead = 1", r"expected in run\.toml only \['data', .*\], got 'sead'"),
        ("[data]\nbatch = 3", r"expected in run\.toml\.data only .*, got 'batch'"),
        ("report_steps = 2.5", r"run\.toml\.report_steps of kind .*int.*, got 2\.5"),
        ("report_steps = true", r"run\.toml\.report_steps of kind .*int.*, got True"),
        ("save_s = true", r"run\.toml\.save_s of kind .*float.*, got True"),
        ("save_s = 'often'", r"run\.toml\.save_s of kind .*float.*, got 'often'"),
        ("[data.weights]\nmade = 'much'", r"run\.toml\.data\.weights\.made .*, got 'much'"),
        (
            "[data.augment]\ngain_db = 3.0",
            r"run\.toml\.data\.augment\.gain_db of kind .*tuple.*, got 3\.0",
        ),
        ("[loss]\nkl_per = 'word'", r"run\.toml\.loss\.kl_per of kind .*, got 'word'"),
        ("data = 3", r"run\.toml\.data of kind .*DataConfig.*, got 3"),
    ],
)
def test_what_a_run_may_not_say_is_refused_with_its_place(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(RunConfigError, match=message):
        run_of(line + "\n" + LEAST if line[0] != "[" else LEAST + line, tmp_path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunConfigError, match=r"every required key: .*'seed'"):
        run_of(LEAST.replace("seed = 1", ""), tmp_path)


def test_what_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunConfigError, match=r"expected TOML in 'run\.toml'"):
        run_of("seed = = 1", tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunConfigError, match=r"expected TOML in 'none\.toml'"):
        load_run(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('kind = "fixed"\nplan = ""', "a plan of a fixed source: .*got ''"),
        ('kind = "fixed"\nplan = "1,3"', "a plan of a fixed source: .*got 3"),
        ('kind = "strides"\nstrides = [1, 3]', r"strides out of .*, got \(1, 3\)"),
        ('kind = "strides"\nstrides = []', r"strides out of .*, got \(\)"),
        ('kind = "skip"', r"kept layers above 0, got \(\)"),
        ('kind = "skip"\nkept = [0, 2]', r"kept layers above 0, got \(0, 2\)"),
        ('kind = "bernoulli"\nkeep = 0.0', r"keep in \(0, 1\], got 0"),
        ('kind = "dice"', "kind of kind .*, got 'dice'"),
    ],
)
def test_a_source_that_cannot_draw_is_refused(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(RunConfigError, match=message):
        run_of(LEAST + f"[[sampling.plans]]\nweight = 1.0\n{source}\n", tmp_path)


@pytest.mark.parametrize("chunks", [(), (16, 20)])
def test_a_chunk_that_groups_would_straddle_is_refused(chunks: tuple[int, ...]) -> None:
    with pytest.raises(RunConfigError, match="chunk_frames in multiples of 8"):
        dataclasses.replace(RUN.sampling, chunk_frames=chunks)


def test_sampling_without_plans_is_refused() -> None:
    with pytest.raises(RunConfigError, match=r"expected sampling\.plans, got none"):
        dataclasses.replace(RUN.sampling, plans=())
