"""A card says what the measurements say, and leaves empty what nobody measured."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from model_store.depth import DepthPlan
from model_store.recipes import card
from model_store.text.wer import WordErrors

FULL, HALF = DepthPlan.parse("1,1"), DepthPlan.parse("2,2")
COST = {"flops_per_s": 2.08e9, "encoder_flops_per_s": 1.74e9}


def errors(substitutions: int, words: int = 10) -> dict[str, int]:
    made = {field.name: 0 for field in dataclasses.fields(WordErrors)}
    assert {"substitutions", "reference_words"} <= set(made)
    return {**made, "substitutions": substitutions, "reference_words": words}


def case(
    plan: DepthPlan,
    wrong: int,
    *,
    corpus: str = "native",
    mask: str = "full",
    policy: str = "ladder",
) -> dict[str, Any]:
    return {
        "key": f"trained/{policy}/{plan}/{mask}/{corpus}",
        "weights": "trained",
        "policy": policy,
        "plan": str(plan),
        "wer": wrong / 20,
        **COST,
        "utterances": {
            "commonvoice-dev/a": {"errors": errors(wrong)},
            "commonvoice-dev/b": {"errors": errors(0)},
        },
    }


@pytest.fixture
def found(tmp_path: Path) -> card.Measurements:
    wer, time = tmp_path / "wer.jsonl", tmp_path / "time.json"
    profile, peers = tmp_path / "profile.json", tmp_path / "peers.json"
    peer_times = tmp_path / "times.json"
    cases = [case(FULL, 1), case(HALF, 2), case(FULL, 4, mask="24")]
    wer.write_text("".join(json.dumps(c) + "\n" for c in cases), encoding="utf-8")
    timed = {"plan": str(FULL), "cpu_s_per_s": 0.05, "low": 0.04, "high": 0.06}
    time.write_text(json.dumps({"plans": [timed]}), encoding="utf-8")
    profile.write_text(json.dumps({"results": []}), encoding="utf-8")
    said = "one two three four five six seven eight nine ten"
    heard = [
        {"peer": card.YARDSTICK, "id": f"commonvoice-dev/{name}", "reference": said, "text": text}
        for name, text in (("a", said.replace("one", "won")), ("b", said))
    ]
    peers.write_text(json.dumps({"utterances": heard}), encoding="utf-8")
    row = {"peer": card.YARDSTICK, "set": "commonvoice-dev", "cpu_s_per_audio_s": 0.0583}
    peer_times.write_text(json.dumps({"results": [row]}), encoding="utf-8")
    return card.read_measurements([wer], time, profile, peers, peer_times)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_ladder_shows_each_budget_beside_the_yardstick(found: card.Measurements) -> None:
    _, _, full, half = map(cells, card.ladder_table(found, [FULL, HALF]).splitlines())

    assert full[:2] == ["2", "`1,1`"]
    assert full[2].startswith("5.0 (")
    assert full[3].startswith("1.00 (")
    assert half[2].startswith("10.0 (")
    assert half[3].startswith("2.00 (")
    assert full[7:] == ["2.08 (1.74)", "0.0500 (0.0400-0.0600)"]


def test_what_nobody_measured_stays_empty(found: card.Measurements) -> None:
    _, _, _, half = map(cells, card.ladder_table(found, [FULL, HALF]).splitlines())

    assert half[4:7] == ["", "", ""]
    assert half[8] == ""


def test_masks_are_set_against_full_context(found: card.Measurements) -> None:
    row = cells(card.chunk_table(found, [FULL]).splitlines()[-1])

    assert row[3].startswith("20.0 (")
    assert row[5].startswith("4.00 (")


def test_a_ratio_needs_the_same_utterances(found: card.Measurements) -> None:
    fewer = {
        k: v for k, v in found.errors["trained/ladder/1,1/full/native"].items() if "a" in k[-1]
    }
    found.errors["fewer"] = fewer

    assert card.ratio(found, "fewer", "trained/ladder/1,1/full/native") == ""


def test_programs_read_the_same_figures(found: card.Measurements) -> None:
    values = card.card_values(found, [FULL, HALF, DepthPlan.parse("4,4")])

    assert [budget["wer"] for budget in values["budgets"]] == [0.05, 0.1]
    assert values["budgets"][0]["cpu_s_per_s"] == 0.05
    assert values["budgets"][1]["cpu_s_per_s"] is None


def test_policies_stand_side_by_side(found: card.Measurements) -> None:
    skipped = case(DepthPlan.parse("1,0"), 6, policy="skip")
    both = dataclasses.replace(found, cases={**found.cases, skipped["key"]: skipped})

    lines = [cells(line) for line in card.policy_table(both, 2).splitlines()[2:]]

    assert lines[0] == ["layers", "ladder", "uniform", "skip", "first-k", "every-other", "random-k"]
    full, one = lines[2], lines[3]
    # At full depth every policy is the same plan.
    assert set(full[1:]) == {"5.0 @ 1.74"}
    assert one == ["1", "10.0 @ 1.74", "", "30.0 @ 1.74", "", "", ""]


def test_a_log_that_was_written_twice_counts_once(tmp_path: Path) -> None:
    line = {"audio_s": 1800.0, "trained_s": 60.0, "features": 0.5, "kl": 0.2, "task": 0.3}
    log = [{**line, "step": step, "by_plan": {"1,1": 0.25}} for step in (50, 50, 100)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in log), "utf-8")

    section = card.training_section(tmp_path)

    assert "100 steps, 1.0 hours of audio seen" in section
    assert "| `1,1` | 0.250 |" in section


def test_cpu_times_may_come_from_the_engine_that_serves() -> None:
    spread = {"median": 0.05, "low": 0.04, "high": 0.06}
    rows = [
        {"recogniser": name, "cpu_s_per_s": spread}
        for name in ("onnx int8 1,1", "torch bfloat16 1,1", "moonshine-tiny-onnx")
    ]

    plans, peers = card.plan_costs({"results": rows}), card.peer_costs({"results": rows})

    assert plans == {"1,1": {"cpu_s_per_s": 0.05, "low": 0.04, "high": 0.06}}
    assert peers == {"moonshine-tiny-onnx/commonvoice-dev": {"cpu_s_per_audio_s": 0.05}}
