"""Moonshine Streaming in the recipe that trains every backbone, and what its plans cost."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_store.backbones.moonshine_streaming import MoonshineStreaming
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.decoding.greedy import decode_greedy
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue
from model_store.flops import decoder_flops, encoder_flops
from model_store.recipes import distill, factorise
from model_store.recipes.factorise import inherit, untrained_student
from model_store.recipes.prepare import Corpus, Teacher
from model_store.registry.sizes import model_sizes
from model_store.training.config import (
    DataConfig,
    OptimiserConfig,
    PlanSource,
    RunConfig,
    SamplingConfig,
)
from model_store.training.data import Batches
from model_store.training.loop import Trainer
from model_store.training.reference import Reference, save_references
from tests.numerics.backbones import (
    NUM_LAYERS,
    constant,
    encode,
    noise,
    write_corpus,
    write_tokenizer,
)
from tests.numerics.moonshine_streaming_kit import CONFIG, built

RUN = RunConfig(
    seed=3,
    sampling=SamplingConfig(
        plans=(
            PlanSource(kind="strides", weight=1.0, strides=(1, 2, 4)),
            PlanSource(kind="skip", weight=1.0, kept=(1, 2)),
        ),
        switch=1.0,
    ),
    optimiser=OptimiserConfig(steps=3, warmup_steps=1),
    data=DataConfig(batch_s=2.5),
    report_steps=1,
    evaluate_steps=3,
)
RUN_TOML = """
seed = 3
evaluate_steps = 2
[sampling]
plans = [{kind = "strides", weight = 1.0, strides = [1, 2, 4]}]
[optimiser]
steps = 2
warmup_steps = 1
[data]
batch_s = 2.5
"""
SIZES = {
    "published": {"memory_pool": 1, "bypass_rank": 0},
    "pooled": {"memory_pool": 4},
    "equal-widths": {"decoder_dim": CONFIG.dim, "head_dim": CONFIG.dim // 4, "tied_head": True},
}
PLANS = ("1,1,1", "2,2,2", "4,1,8", "1,0,1", "4,0,2")


@pytest.fixture(scope="module")
def teacher() -> MoonshineStreaming:
    return built(memory_pool=1, bypass_rank=0)


@pytest.fixture(scope="module")
def folder(teacher: MoonshineStreaming, tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tmp_path_factory.mktemp("teacher")
    save_checkpoint(teacher, PlanCatalogue.untuned(NUM_LAYERS), saved)
    write_tokenizer(saved)
    decoding = {"alignment_heads": {"0": [1], "1": [0, 2]}, "end_offset_s": 0.0}
    (saved / "decoding.json").write_text(json.dumps(decoding), encoding="utf-8")
    write_corpus(saved / "made")
    return saved


@pytest.fixture(scope="module")
def references(folder: Path) -> list[Reference]:
    corpus = Corpus(manifest=folder / "made" / "manifest.tsv", text="transcript")
    return list(Teacher(load_checkpoint(folder)).references(corpus, np.random.default_rng(0)))


def test_a_teacher_hears_a_corpus(teacher: MoonshineStreaming, references: list[Reference]) -> None:
    assert len(references) == 4
    for reference in references:
        frames = int(teacher.num_frames(torch.tensor(reference.num_samples)))
        assert reference.states_TD.shape == (frames, CONFIG.dim)
        assert bool((reference.end_s_U.diff() >= 0).all())


def test_three_steps_change_the_layers_and_leave_the_front_end(
    teacher: MoonshineStreaming, references: list[Reference], tmp_path: Path
) -> None:
    student = untrained_student(teacher, memory_pool=2, bypass_rank=4, front_end_rank=0)
    inherit(student, teacher.state_dict())
    before = {name: value.clone() for name, value in student.state_dict().items()}
    batches = Batches({"made": references}, noise(80_000)[0][0], student, RUN.data, RUN.seed)
    evaluated: list[int] = []

    Trainer(student, batches, RUN, tmp_path, lambda step, _: evaluated.append(step)).run()

    after = student.state_dict()
    assert all(bool(value.isfinite().all()) for value in after.values())
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("encoder.stack.layers.2.block.") for name in changed)
    assert any(".bypass." in name for name in changed)
    assert changed >= {"decoder.bridge.weight", "decoder.layers.0.cross.query.weight"}
    assert not any(name.startswith("encoder.front_end.") for name in changed)
    assert "decoder.embedding.weight" not in changed
    assert evaluated == [3]


def test_a_student_starts_as_its_teacher_at_full_depth(teacher: MoonshineStreaming) -> None:
    student = untrained_student(teacher, memory_pool=2, bypass_rank=4, front_end_rank=0)
    inherit(student, teacher.state_dict())

    states = [encode(m.eval(), *noise(9_000), constant(1, 1, 1)) for m in (teacher, student)]

    assert torch.equal(states[0].states_BTD, states[1].states_BTD)
    assert model_sizes(student).memory_pool == 2


def test_the_programs_take_it_from_a_checkpoint_to_a_student(
    folder: Path, references: list[Reference], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = str(folder / "made" / "manifest.tsv")
    (tmp_path / "run.toml").write_text(RUN_TOML, encoding="utf-8")
    (tmp_path / "references").mkdir()
    save_references(references, tmp_path / "references" / "made")
    start, out = tmp_path / "start", tmp_path / "out"
    threads = torch.get_num_threads()

    run(
        monkeypatch, factorise.main,
        *("--model", str(folder), "--speech", manifest, "--out", str(start)),
        *("--memory-pool", "2", "--bypass-rank", "4"),
    )  # fmt: skip
    run(
        monkeypatch, distill.main,
        *("--run", str(tmp_path / "run.toml"), "--start", str(start), "--noise", manifest),
        *("--references", str(tmp_path / "references"), "--out", str(out)),
    )  # fmt: skip
    torch.set_num_threads(threads)

    begun, trained = (load_checkpoint(found).model for found in (start, out / "student"))
    assert trained.config == begun.config == dataclasses.replace(CONFIG, bypass_rank=4)
    name = "encoder.stack.layers.0.block.attention.qkv.weight"
    assert not torch.equal(trained.state_dict()[name], begun.state_dict()[name])


def run(monkeypatch: pytest.MonkeyPatch, program: Callable[[], None], *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    program()


def counted(called: Callable[[], object]) -> int:
    with (
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        called()
    return counter.get_total_flops()


@pytest.fixture(scope="module", params=SIZES)
def sized(request: pytest.FixtureRequest) -> MoonshineStreaming:
    return built(**SIZES[request.param])


@pytest.mark.parametrize("length", [30, 700, 20_011])
@pytest.mark.parametrize("plan", PLANS)
def test_the_encoder_costs_what_is_counted(
    sized: MoonshineStreaming, plan: str, length: int
) -> None:
    schedule = DepthSchedule.constant(DepthPlan.parse(plan))

    flops = counted(lambda: sized.encode(*noise(length), schedule))

    assert encoder_flops(model_sizes(sized), schedule, length) == flops


@pytest.mark.parametrize("watched", [{}, {0: [1], 1: [0, 2]}], ids=["plain", "watched"])
@pytest.mark.parametrize("length", [700, 6_000])
def test_the_decoder_costs_what_is_counted(
    sized: MoonshineStreaming, length: int, watched: dict[int, list[int]]
) -> None:
    encoded = encode(sized, *noise(length), constant(1, 1, 1))
    heads = sum(len(found) for found in watched.values())
    sizes = dataclasses.replace(model_sizes(sized), watched_heads=heads)

    for limit in (1, 5):
        flops = counted(lambda: decode_greedy(sized, encoded, [limit], -1, watched))  # noqa: B023 called at once

        assert decoder_flops(sizes, length, limit) == flops


def test_frames_are_those_of_the_model(sized: MoonshineStreaming) -> None:
    sizes = model_sizes(sized)

    for length in (1, 79, 80, 399, 400, 6_000, 20_011):
        assert sizes.num_frames(length) == int(sized.num_frames(torch.tensor(length)))
