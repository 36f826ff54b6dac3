"""Evaluation by depth: every policy at every budget, resumable, and what it says of costs."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import depth_table
from benchmarks.depth_report import figure, markdown, rows
from benchmarks.depth_table import best_fixed, cases, hear_each, measure, training_cost
from model_store.checkpoint import load_checkpoint
from model_store.depth import DepthPlan
from model_store.depth.selector_file import save_selector
from model_store.registry import Recogniser
from model_store.training.manifest import Utterance
from model_store.training.measure import Recording
from tests.live_kit import recogniser, speech
from tests.numerics.backbones import NUM_LAYERS
from tests.unit.service.engine.test_by_input import untrained

SPEECH = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("run") / "student"
    recogniser(made, "moonshine")
    save_selector(untrained("skip"), made)
    (made.parent / "log.jsonl").write_text('{"trained_s": 1.0}\n{"trained_s": 42.5}\n')
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Recogniser:
    return Recogniser("tiny", load_checkpoint(folder), "float32")


def recordings() -> list[Recording]:
    made: list[Recording] = []
    for index in range(SPEECH):
        samples = speech(8_000 + 1_000 * index, index)
        seconds = len(samples) / 16_000
        item = Utterance(f"made/{index}", Path("none"), seconds, "nobody", "w1 s3")
        made.append(Recording(item, samples, "w1 s3"))
    return made


def two_recordings(_manifest: Path, _every: int = 1) -> list[Recording]:
    return recordings()[:2]


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def log(model: Recogniser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "cases.jsonl"
    measure(model, recordings(), recordings()[:2], [3, 2], 2, {"trained_s": 42.5}, path)
    return path


def test_every_policy_is_measured_at_every_budget(log: Path) -> None:
    found = {(line["policy"], line["layers"], line["seed"]) for line in lines_of(log)}

    assert {("full", NUM_LAYERS, 0), ("best", 2, 0), ("input", 2, 0), ("first-k", 2, 0)} <= found
    assert {("random-k", 2, 0), ("random-k", 2, 1), ("every-other", 2, 0)} <= found
    assert ("ladder", NUM_LAYERS / 2, 0) in found


def test_what_was_measured_is_not_measured_again(model: Recogniser, log: Path) -> None:
    done = {str(line["key"]) for line in lines_of(log)}

    assert list(cases(model, recordings()[:2], [3, 2], 2, done)) == []


def test_random_layers_are_drawn_for_each_utterance_and_stay_so(log: Path) -> None:
    by_seed = [line["plans"] for line in lines_of(log) if line["policy"] == "random-k"]

    assert any(len(plans) > 1 for plans in by_seed)
    assert all(DepthPlan.parse(plan).effective_layers == 2 for plans in by_seed for plan in plans)


def test_a_smaller_plan_costs_less_and_the_selector_is_counted(log: Path) -> None:
    cost = {
        (line["policy"], line["layers"], line["seed"]): line["encoder_macs_per_s"]
        for line in lines_of(log)
    }

    assert cost["first-k", 2, 0] < cost["full", NUM_LAYERS, 0]
    assert cost["input", 2, 0] > cost["first-k", 2, 0]


def test_each_recording_is_heard_at_its_own_plan(model: Recogniser) -> None:
    plans = [DepthPlan.full(NUM_LAYERS), DepthPlan((2, 2, 2))]
    places = {recording.utterance.id: i % 2 for i, recording in enumerate(recordings())}

    heard, used = hear_each(
        model, recordings(), lambda r: plans[places[r.utterance.id]], by_input=False
    )

    assert [item.id for item in heard] == [r.utterance.id for r in recordings()]
    assert used == [plans[i % 2] for i in range(SPEECH)]
    for recording, item, plan in zip(recordings(), heard, used, strict=True):
        (alone,) = model.transcribe_windows([recording.samples], plan, words=False)
        assert item.text == alone.text
        assert item.flops == alone.flops


def test_the_best_fixed_plan_has_no_more_errors_than_any_other(model: Recogniser) -> None:
    from model_store.training.measure import hear, word_error_rate

    found = best_fixed(model, recordings(), 2)

    rates = {
        plan: word_error_rate(hear(model, recordings(), plan))
        for plan in (DepthPlan((1, 1, 0)), DepthPlan((1, 0, 1)), DepthPlan((0, 1, 1)))
    }
    assert rates[found] == min(rates.values())


def test_the_table_puts_seeds_together(log: Path, tmp_path: Path) -> None:
    found = lines_of(log)
    made = rows(found)

    random_row = next(row for row in made if row["policy"] == "random-k")
    rates = [float(str(line["wer"])) for line in found if line["policy"] == "random-k"]
    assert random_row["wer"] == pytest.approx(np.mean(rates))
    assert random_row["sd"] == pytest.approx(np.std(rates, ddof=1))
    low, high = random_row["interval"]
    assert low <= random_row["wer"] <= high
    text = markdown(found)
    assert text.count("\n| tiny |") == len(made)
    assert "Saturated" in text  # a model of random weights hears nothing right
    figure(found, tmp_path / "figure.svg")
    assert "<svg" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


def test_more_seeds_of_the_same_utterances_make_no_interval_narrower() -> None:
    numbers = {"encoder_macs_per_s": 1.0, "macs_per_s": 1.0, "parameters": 1, "realtime_factor": 1}
    errors = {
        f"made/{index}": {
            "substitutions": index % 3, "deletions": 0, "insertions": 0, "reference_words": 4,
        }
        for index in range(20)
    }  # fmt: skip
    case = {"model": "tiny", "policy": "random-k", "layers": 2, "wer": 0.24, **numbers}
    once = rows([{**case, "errors": errors}])
    five_times = rows([{**case, "errors": errors}] * 5)

    assert five_times[0]["interval"] == once[0]["interval"]


def test_training_is_charged_with_its_teacher(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cost.jsonl").write_text('{"teacher_s": 2.5}\n{"teacher_s": 4.0}\n')

    cost = training_cost(folder.parent / "log.jsonl", tmp_path)

    assert cost == {"trained_s": 42.5, "teacher_s": 6.5}
    assert training_cost(tmp_path / "none.jsonl", None) == {}


def test_the_command_writes_table_and_figure(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(depth_table, "held_out_recordings", two_recordings)
    student = tmp_path / "run" / "student"
    shutil.copytree(folder, student)
    arguments = ["--model", f"one={student}", "--held-out", "made", "--out", str(tmp_path / "out")]
    arguments += ["--layers", "2", "--seeds", "1", "--published", "conformer-ee"]
    monkeypatch.setattr(sys, "argv", ["depth_table", *arguments])

    depth_table.main()

    printed = capsys.readouterr().out
    assert "| one | full |" in printed
    assert "| 2 | 31.0 | 51.0 |" in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "cases.jsonl", "table.md", "wer_against_flops.svg",
    }  # fmt: skip
