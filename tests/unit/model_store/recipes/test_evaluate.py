import json
from pathlib import Path

import numpy as np
import pytest

import model_store
from model_store.checkpoint import save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.recipes.evaluate import (
    CONDITION_LAYERS,
    Case,
    Sounds,
    cases,
    measure_wer,
    under_conditions,
)
from model_store.registry import Recogniser
from model_store.training.manifest import Utterance
from model_store.training.measure import Recording
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, noise, write_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    folder = tmp_path_factory.mktemp("tiny")
    save_checkpoint(BACKBONES["moonshine"].build(), PlanCatalogue.untuned(NUM_LAYERS), folder)
    write_tokenizer(folder)
    return model_store.load(str(folder))


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    samples = (0.1 * noise(12_000)[0][0].numpy()).astype(np.float32)
    item = Recording(Utterance("set/a", Path("a"), 0.75, "ann", "a b"), samples, "a b")
    hiss = np.random.default_rng(0).normal(0, 0.1, 9_000).astype(np.float32)
    return Sounds({"native": [item]}, [hiss])


def test_every_case_has_a_name_of_its_own(model: Recogniser) -> None:
    clean = list(cases(model.catalogue, ["native", "held_out", "non_native"]))
    changed = list(under_conditions(model.catalogue, ["native"], ["noisy-10db", "telephone-8khz"]))

    keys = [case.key for case in clean]
    # A case may be listed twice; it is measured once.
    assert len(set(keys)) == len(set(clean))
    assert not set(keys) & {case.key for case in changed}
    layers = {p.effective_layers for p in model.catalogue.plans("ladder")} & {*CONDITION_LAYERS}
    assert len(changed) == 2 * len(layers) > 0


def test_conditions_change_what_is_heard_and_are_made_once(sounds: Sounds) -> None:
    clean = sounds.under("native", "clean")
    noisy = sounds.under("native", "noisy-10db")

    assert sounds.under("native", "noisy-10db") is noisy
    assert not np.array_equal(noisy[0].samples, clean[0].samples)


def test_a_log_goes_on_where_it_was_stopped(
    model: Recogniser, sounds: Sounds, tmp_path: Path
) -> None:
    todo = [
        Case("trained", "ladder", "1,1,1", None, "native"),
        Case("trained", "ladder", "1,1,1", None, "native", "telephone-8khz"),
        Case("untrained", "ladder", "1,1,1", None, "native"),
    ]
    out = tmp_path / "wer.jsonl"

    measure_wer({"trained": model}, sounds, todo[:1], out)
    measure_wer({"trained": model}, sounds, todo, out)

    lines = [json.loads(text) for text in out.read_text(encoding="utf-8").splitlines()]
    assert [line["key"] for line in lines] == [case.key for case in todo[:2]]
    assert [line["condition"] for line in lines] == ["clean", "telephone-8khz"]
    assert all(line["flops_per_s"] > line["encoder_flops_per_s"] > 0 for line in lines)
