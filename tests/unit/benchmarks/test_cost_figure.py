from pathlib import Path

import pytest

from benchmarks.cost_figure import Point, beats, draw

OURS = Point("4", "strides", 0.087, 1.3e9, 0.011)


@pytest.mark.parametrize(
    ("group", "wer", "flops_per_s", "cpu_s_per_s", "expected"),
    [
        ("static", 0.087, 1.3e9, 0.011, True),
        ("static", 0.088, 1.0e9, 0.010, False),
        ("static", 0.080, 1.4e9, 0.010, False),
        ("static", 0.080, 1.0e9, 0.012, False),
        ("skips", 0.080, 1.0e9, 0.010, False),
    ],
)
def test_only_a_static_model_that_is_no_worse_anywhere_beats_a_budget(
    group: str, wer: float, flops_per_s: float, cpu_s_per_s: float, expected: bool
) -> None:
    assert beats(Point("other", group, wer, flops_per_s, cpu_s_per_s), OURS) is expected


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_legend_names_what_is_drawn_and_nothing_else(tmp_path: Path) -> None:
    draw([OURS, Point("tiny", "static", 0.123, 1.0e9, 0.0135)], tmp_path / "cost.svg")

    drawn = (tmp_path / "cost.svg").read_text()
    assert "<!-- strides -->" in drawn
    assert "<!-- static -->" in drawn
    assert "<!-- skips -->" not in drawn
