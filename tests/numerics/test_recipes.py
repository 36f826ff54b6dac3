"""Programs that average and compare students, on tiny random models."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from model_store.backbones import SpeechModule
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.recipes import compare, interpolate
from tests.numerics.backbones import (
    BACKBONES,
    NUM_LAYERS,
    write_corpus,
    write_tokenizer,
)


def saved(folder: Path, seed: int) -> SpeechModule:
    torch.manual_seed(seed)
    model = BACKBONES["moonshine"].build(bypass_rank=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_checkpoint(model, PlanCatalogue.untuned(NUM_LAYERS), folder)
    write_tokenizer(folder)
    return model


def run(monkeypatch: pytest.MonkeyPatch, program: object, *options: object) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *map(str, options)])
    program.main()  # type: ignore[attr-defined]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_every_parameter_lies_between_both_students(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, trained = saved(tmp_path / "start", 1), saved(tmp_path / "trained", 2)

    run(
        monkeypatch, interpolate, "--start", tmp_path / "start", "--trained", tmp_path / "trained",
        "--share", share, "--out", tmp_path / "out",
    )  # fmt: skip

    before, after = start.state_dict(), trained.state_dict()
    found = load_checkpoint(tmp_path / "out").model.state_dict()
    for name, value in found.items():
        expected = (1 - share) * before[name] + share * after[name]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_a_student_compared_with_itself_is_its_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "one", 1)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    manifest = write_corpus(tmp_path / "made")

    def held_out(name: str | None = None) -> frozenset[str]:
        return frozenset(() if name else (f"made/{index}" for index in range(4)))

    monkeypatch.setattr("model_store.training.measure.held_out_ids", held_out)

    run(
        monkeypatch, compare, "--student", f"one={tmp_path / 'one'}", "--student",
        f"two={tmp_path / 'two'}", "--plan", "1,1,1", "--plan", "2,2,2", "--held-out", manifest,
        "--out", tmp_path / "found.json",
    )  # fmt: skip

    rows = [line for line in capsys.readouterr().out.splitlines() if "| two |" in line]
    assert len(rows) == 2
    assert all("| 1.00 (1.00-1.00) |" in row for row in rows)
    written = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert written["1,1,1"]["one"] == written["1,1,1"]["two"]
    assert written["1,1,1"]["one"]["reference_words"] == 12
