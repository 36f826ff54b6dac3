"""A teacher hears a corpus and a student learns from it, for every backbone, three steps long."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model_store.backbones import SpeechModule
from model_store.backbones.base import EncoderStates
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.recipes.factorise import inherit, untrained_student
from model_store.recipes.prepare import Corpus, Teacher
from model_store.training.config import (
    DataConfig,
    OptimiserConfig,
    PlanSource,
    RunConfig,
    SamplingConfig,
)
from model_store.training.data import Batches
from model_store.training.loop import Trainer
from model_store.training.losses import Targets, feature_error
from model_store.training.objective import as_memory
from model_store.training.reference import Reference
from tests.numerics.backbones import (
    BACKBONES,
    BYTES,
    END,
    NUM_LAYERS,
    noise,
    write_corpus,
    write_tokenizer,
)

RUN = RunConfig(
    seed=3,
    sampling=SamplingConfig(
        plans=(
            PlanSource(kind="strides", weight=1.0),
            PlanSource(kind="skip", weight=1.0, kept=(1, 2)),
        ),
        switch=1.0,
    ),
    optimiser=OptimiserConfig(steps=3, warmup_steps=1),
    data=DataConfig(batch_s=2.5),
    report_steps=1,
    evaluate_steps=3,
)


@pytest.fixture(params=["moonshine", "whisper", "whisper-padded"])
def teacher(request: pytest.FixtureRequest) -> SpeechModule:
    return BACKBONES[request.param].build(bypass_rank=0)


def references_of(teacher: SpeechModule, folder: Path) -> list[Reference]:
    saved = folder / "teacher"
    save_checkpoint(teacher, PlanCatalogue.untuned(NUM_LAYERS), saved)
    write_tokenizer(saved)
    decoding = {"alignment_heads": {"0": [1], "1": [0, 2]}, "end_offset_s": 0.0}
    (saved / "decoding.json").write_text(json.dumps(decoding), encoding="utf-8")
    corpus = Corpus(manifest=write_corpus(folder / "made"), text="transcript")
    return list(Teacher(load_checkpoint(saved)).references(corpus, np.random.default_rng(0)))


def student_of(teacher: SpeechModule) -> SpeechModule:
    student = untrained_student(teacher, memory_pool=2, bypass_rank=4, front_end_rank=0)
    inherit(student, teacher.state_dict())
    return student


def changed_by(
    student: SpeechModule, references: list[Reference], run: RunConfig, out: Path
) -> set[str]:
    before = {name: value.clone() for name, value in student.state_dict().items()}
    batches = Batches({"made": references}, noise(80_000)[0][0], student, run.data, run.seed)
    Trainer(student, batches, run, out, lambda _step, _student: None).run()
    return {n for n, value in student.state_dict().items() if not torch.equal(value, before[n])}


def test_another_speed_is_another_voice_with_the_same_text(
    teacher: SpeechModule, tmp_path: Path
) -> None:
    references = references_of(teacher, tmp_path)
    faster = Teacher(load_checkpoint(tmp_path / "teacher"))
    faster.remember(references[:3])
    corpus = Corpus(manifest=tmp_path / "made" / "manifest.tsv", text="prepared", speed=1.25)

    found = list(faster.references(corpus, np.random.default_rng(0)))

    assert corpus.name == "made-speed125"
    # A text that was not found before leaves its utterance out.
    assert [r.id for r in found] == [r.id for r in references[:3]]
    for quick, slow in zip(found, references, strict=False):
        assert torch.equal(quick.token_U, slow.token_U)
        assert slow.num_samples - quick.num_samples == pytest.approx(
            0.2 * (16_000 + 1000 * int(Path(slow.id).stem)), abs=2
        )


def test_a_decoder_may_learn_in_its_cross_attention_alone(
    teacher: SpeechModule, tmp_path: Path
) -> None:
    references = references_of(teacher, tmp_path)
    optimiser = dataclasses.replace(RUN.optimiser, decoder_parts="cross")
    run = dataclasses.replace(RUN, optimiser=optimiser)

    changed = changed_by(student_of(teacher), references, run, tmp_path / "run")

    in_decoder = {name for name in changed if name.startswith("decoder.")}
    assert "decoder.layers.0.cross.query.weight" in in_decoder
    assert all(".cross" in name or "pool_RD" in name for name in in_decoder)


def test_a_teacher_says_when_each_token_ends(teacher: SpeechModule, tmp_path: Path) -> None:
    references = references_of(teacher, tmp_path)

    assert len(references) == 4
    for reference in references:
        ends_s = reference.end_s_U
        assert int(reference.token_U[:-1].max()) < BYTES
        assert int(reference.token_U[-1]) == END
        assert float(ends_s[-1]) == pytest.approx(reference.num_samples / 16_000)
        assert bool((ends_s.diff() >= 0).all())
        assert reference.states_TD.shape[0] >= int(
            teacher.num_frames(torch.tensor(reference.num_samples))
        )


def test_three_steps_change_the_layers_and_leave_the_front_end(
    teacher: SpeechModule, tmp_path: Path
) -> None:
    references = references_of(teacher, tmp_path)
    student = untrained_student(teacher, memory_pool=2, bypass_rank=4, front_end_rank=0)
    inherit(student, teacher.state_dict())
    before = {name: value.clone() for name, value in student.state_dict().items()}
    batches = Batches({"made": references}, noise(80_000)[0][0], student, RUN.data, RUN.seed)
    evaluated: list[int] = []

    Trainer(student, batches, RUN, tmp_path / "run", lambda step, _: evaluated.append(step)).run()

    after = student.state_dict()
    assert all(bool(value.isfinite().all()) for value in after.values())
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("encoder.stack.layers.2.block.") for name in changed)
    assert any(".bypass." in name for name in changed)
    assert "decoder.layers.0.cross.query.weight" in changed
    assert not any(name.startswith("encoder.front_end.") for name in changed)
    assert evaluated == [3]
    log = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3]


def test_what_the_decoder_does_not_see_costs_nothing(teacher: SpeechModule) -> None:
    student = student_of(teacher)
    frames_B = torch.tensor([9, 5])
    wanted_BTD = torch.randn(2, 9, student.config.dim, generator=torch.Generator().manual_seed(0))
    frame_BT = torch.arange(9) < frames_B[:, None]
    # Neighbours that change places, two by two, are the same to a decoder that pools two frames.
    order = [1, 0, 3, 2, 5, 4, 7, 6, 8]
    given_BTD = wanted_BTD.clone()
    given_BTD[0] = wanted_BTD[0, order]
    nothing = torch.zeros(2, 0)
    targets = Targets(wanted_BTD, frame_BT, *[nothing] * 5)

    memory_BPD, pooled = as_memory(student, EncoderStates(given_BTD, frames_B), targets)

    assert pooled.frame_BT.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert float(feature_error(given_BTD, targets)[0].max()) > 0.1
    assert float(feature_error(memory_BPD.detach(), pooled)[pooled.frame_BT].max()) < 1e-9


def test_features_may_be_compared_as_the_decoder_sees_them(
    teacher: SpeechModule, tmp_path: Path
) -> None:
    references = references_of(teacher, tmp_path)
    loss = dataclasses.replace(RUN.loss, features_of="memory")
    run = dataclasses.replace(RUN, loss=loss)

    assert changed_by(student_of(teacher), references, run, tmp_path / "run")
