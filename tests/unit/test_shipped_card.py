"""What is said about the shipped weights is what was measured of them."""

import json
import re
from pathlib import Path

import pytest

from model_store.checkpoint import load_catalogue
from model_store.registry import shipped, weights_folder

ROOT = Path(__file__).parents[2]
MOST_BYTES = 66_000_000


@pytest.mark.parametrize("name", shipped())
def test_the_card_measures_every_plan_on_the_ladder(name: str) -> None:
    folder = weights_folder() / name
    layers = json.loads((folder / "config.json").read_text())["encoder_layers"]

    card = json.loads((folder / "card.json").read_text())

    ladder = load_catalogue(folder, layers).plans("ladder")
    assert [budget["plan"] for budget in card["budgets"]] == [str(plan) for plan in ladder]
    assert all(0 < budget["wer"] < 2 for budget in card["budgets"])


def test_the_weights_stay_small() -> None:
    files = [path for path in weights_folder().rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < MOST_BYTES


def test_the_readme_repeats_the_card() -> None:
    card = json.loads((weights_folder() / "moonshine-base-elastic" / "card.json").read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    rows = dict(re.findall(r"^\| ([\d.]+) \| ([^|]+(?:\|[^|\n]+)*) \|$", readme, re.MULTILINE))
    for budget in card["budgets"]:
        said = [cell.strip() for cell in rows[f"{budget['effective_layers']:g}"].split("|")]
        native = budget["wer_by_set"]["commonvoice-dev"]
        assert said[0] == f"{budget['drop']:g}"
        assert said[1] == f"{100 * native:.1f}"
        assert said[2] == f"{budget['flops_per_s'] / 1e9:.2f}"
        assert said[3] == f"{1000 * budget['cpu_s_per_s']:.0f}"
