import json
from pathlib import Path
from typing import Any

from model_store.recipes.card_words import word_sections


def row(layers: float | None, condition: str, **over: Any) -> dict[str, Any]:
    return {
        "system": "shipped" if layers else "moonshine-base-onnx",
        "layers": layers,
        "set": "native",
        "condition": condition,
        "wer": 0.12,
        "interval": [0.1, 0.14],
        "substitutions": 6,
        "deletions": 4,
        "insertions": 2,
        "reference_words": 100,
        "over_published": {"ratio": 1.2, "interval": [0.9, 1.5]} if layers else None,
        "written": {"wer": 0.25},
        **over,
    }


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"results": rows}) + "\n", encoding="utf-8")
    return path


def test_without_results_the_card_has_no_such_section() -> None:
    assert word_sections(None, None) == []


def test_a_line_shows_every_condition_and_the_published_model_last(tmp_path: Path) -> None:
    rows = [row(None, "clean"), row(3.0, "noisy-10db", wer=0.3), row(8.0, "clean")]

    noise, lost = word_sections(written(tmp_path / "c.json", rows), None)

    lines = [line for line in noise.splitlines() if line.startswith("| native")]
    assert lines == [
        "| native | 8 | 12.0 (10.0-14.0) [1.20, 0.90-1.50] |  |  |",
        "| native | 3 |  | 30.0 (10.0-14.0) [1.20, 0.90-1.50] |  |",
        "| native | moonshine-base-onnx | 12.0 (10.0-14.0) |  |  |",
    ]
    assert "| native | 8 | 12.0 | 6.0 | 4.0 | 2.0 | 25.0 |" in lost
    assert "| native | 3 |" not in lost


def test_what_has_no_written_references_leaves_that_cell_empty(tmp_path: Path) -> None:
    rows = [row(8.0, "clean", set="non_native", written=None)]

    _, lost = word_sections(written(tmp_path / "c.json", rows), None)

    assert "| non-native | 8 | 12.0 | 6.0 | 4.0 | 2.0 |  |" in lost


def test_confidence_is_shown_where_it_was_not_fitted(tmp_path: Path) -> None:
    figures = {"words": 900, "accuracy": 0.9, "mean_confidence": 0.95, "expected_error": 0.06}
    after = figures | {"mean_confidence": 0.91, "expected_error": 0.02}
    rows = [
        {"set": corpus, "condition": "clean", "layers": 4.0, "fitted_on": fitted,
         "before": figures, "after": after}
        for corpus, fitted in (("native", False), ("held_out", True))
    ]  # fmt: skip

    (section,) = word_sections(None, written(tmp_path / "c.json", rows))

    assert "| native | as it is | 4 | 900 | 90.0 | 95.0 | 91.0 | 6.0 | 2.0 |" in section
    assert "held-out voice" not in section
