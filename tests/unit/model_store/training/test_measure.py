import json
from pathlib import Path

import pytest
import soundfile

import model_store
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import DepthPlan, PlanCatalogue
from model_store.registry import Recogniser
from model_store.training.manifest import COLUMNS, held_out_ids
from model_store.training.measure import (
    NEITHER,
    Recording,
    hear,
    held_out_recordings,
    word_error_rate,
)
from model_store.training.progress import ProgressWer, watched_plans
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, noise, write_tokenizer

RATE_HZ = 16_000
HELD = sorted(id_.split("/")[1] for id_ in held_out_ids("kathleen"))[:5]
FULL = DepthPlan.full(NUM_LAYERS)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of five held-out utterances of falling length, and one that is free."""
    folder = tmp_path_factory.mktemp("corpora") / "kathleen"
    folder.mkdir()
    rows = ["\t".join(COLUMNS)]
    for index, stem in enumerate(["free", *HELD]):
        samples = 16_000 - 1_500 * index
        soundfile.write(folder / f"{stem}.wav", noise(samples, seed=index)[0][0].numpy(), RATE_HZ)
        rows.append(f"{stem}.wav\t{samples / RATE_HZ}\tann\tdev\ttwo words")
    path = folder / "manifest.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    save_checkpoint(BACKBONES["moonshine"].build(), PlanCatalogue.untuned(NUM_LAYERS), made)
    write_tokenizer(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Recogniser:
    return model_store.load(str(folder))


@pytest.fixture(scope="module")
def recordings(manifest: Path) -> list[Recording]:
    return held_out_recordings(manifest)


def test_only_held_out_utterances_are_measured(manifest: Path, recordings: list[Recording]) -> None:
    assert [one.utterance.id for one in recordings] == [f"kathleen/{stem}" for stem in HELD]
    assert len(held_out_recordings(manifest, every=2)) == 3


def test_results_come_in_the_order_given(model: Recogniser, recordings: list[Recording]) -> None:
    heard = hear(model, recordings, FULL)

    assert [one.id for one in heard] == [one.utterance.id for one in recordings]
    assert [one.audio_s for one in heard] == [len(one.samples) / RATE_HZ for one in recordings]
    for one, recording in zip(heard, recordings, strict=True):
        (alone,) = hear(model, [recording], FULL)
        assert (one.text, one.flops, one.encoder_flops) == (
            alone.text,
            alone.flops,
            alone.encoder_flops,
        )


def test_a_shallower_plan_costs_less(model: Recogniser, recordings: list[Recording]) -> None:
    full, half = (hear(model, recordings, plan) for plan in (FULL, DepthPlan((4, 4, 4))))

    assert sum(one.encoder_flops for one in half) < sum(one.encoder_flops for one in full)


def test_the_error_rate_is_over_all_reference_words(
    model: Recogniser, recordings: list[Recording]
) -> None:
    heard = hear(model, recordings, FULL)

    errors = [one.errors for one in heard]
    wrong = sum(one.substitutions + one.deletions + one.insertions for one in errors)
    assert word_error_rate(heard) == pytest.approx(wrong / (2 * len(recordings)))


def test_progress_is_written_by_depth(folder: Path, manifest: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(folder)
    progress = ProgressWer([manifest], checkpoint, checkpoint.model.num_layers, tmp_path)

    progress.report(50, checkpoint.model.train())
    progress.report(100, checkpoint.model)

    lines = (tmp_path / "wer.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["step"], second["step"]) == (50, 100)
    assert first["wer"] == second["wer"]
    assert set(first["wer"]) == {str(plan) for plan in watched_plans(NUM_LAYERS)}
    assert all(rate >= 0 for rate in first["wer"].values())


def test_without_utterances_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(folder)

    ProgressWer([], checkpoint, checkpoint.model.num_layers, tmp_path).report(1, checkpoint.model)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_layers", [1, 3, 8, 12])
def test_watched_plans_fit_any_depth(num_layers: int) -> None:
    plans = watched_plans(num_layers)

    assert plans[0] == DepthPlan.full(num_layers)
    assert all(plan.num_layers == num_layers for plan in plans)
    assert any(plan.skips for plan in plans) == (num_layers > 2)


def test_what_is_neither_trained_nor_measured_on_is_left_out(tmp_path: Path) -> None:
    rest = sorted(held_out_ids(NEITHER))[0]
    corpus, stem = rest.split("/")
    folder = tmp_path / corpus
    folder.mkdir()
    soundfile.write(folder / f"{stem}.wav", noise(16_000)[0][0].numpy(), RATE_HZ)
    rows = ["\t".join(COLUMNS), f"{stem}.wav\t1.0\tann\ttest\ttwo words"]
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    assert held_out_recordings(folder / "manifest.tsv") == []
