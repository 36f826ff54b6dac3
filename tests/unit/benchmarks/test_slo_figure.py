from pathlib import Path
from typing import Any

import pytest

from benchmarks.slo_figure import STYLES, capacity, curve, draw, measured, merged, panels, table
from benchmarks.slo_systems import systems


def row(system: str, streams: int, lag_s: float | None, **more: Any) -> dict[str, Any]:
    lag = None if lag_s is None else {"p50": lag_s / 2, "p95": lag_s, "p99": 2 * lag_s}
    return {
        "cell": f"{system}-{streams}", "system": system, "load": "1x", "kind": "steady",
        "streams": streams, "in_time_share": 0.5, "lag_s": lag, "first_partial_s": None,
        "partial_interval_s": None, "stable_share": 0.9, "final_s": None, "refused": 0,
        "dropped_s": 0.0, "mean_layers": 4.0, "depth_changes": {"all": 1, "most_of_a_stream": 1},
        "wer": 0.125, "flops_share": 0.5, **more,
    }  # fmt: skip


ROWS = [
    {"cell": "capacity-full", "kind": "capacity", "streams": 10},
    {"cell": "capacity-floor", "kind": "capacity", "streams": 20},
    row("brownout", 20, 0.9),
    row("brownout", 10, 0.6),
    row("brownout", 30, None),
    row("brownout", 18, 0.7, kind="constant", cell="constant"),
    {**row("slack", 10, 0.6), "failed": "SystemExit"},
]


def test_every_system_has_a_style() -> None:
    assert set(STYLES) == set(systems())


def test_a_curve_goes_over_the_loads_that_have_a_value() -> None:
    lag = panels()[1].value

    assert curve(measured(ROWS), "brownout", lag, capacity(ROWS, "full")) == [(1, 0.6), (2, 0.9)]
    assert curve(measured(ROWS), "slack", lag, 10) == []


def test_a_row_is_told_without_what_was_not_measured() -> None:
    lines = table(measured(ROWS), 10)

    assert len(lines) == 2 + 4
    assert {line.count("|") for line in lines} == {16}
    assert lines[2].startswith("| constant | 1x (1.80x) | 18 | 50.0 | 0.35/0.70/1.40 | -/- | - |")
    assert lines[-1].startswith("| brownout | 1x (3.00x) | 30 | 50.0 | -/-/- |")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_figure_is_drawn(tmp_path: Path) -> None:
    draw(measured(ROWS), 10, 20, tmp_path / "slo.svg")

    drawn = (tmp_path / "slo.svg").read_text()
    assert "<svg" in drawn
    assert len(drawn) > 10_000


def test_a_later_file_replaces_cells_of_an_earlier_one() -> None:
    first = {"results": [{"cell": "a", "streams": 1}, {"cell": "b", "streams": 1}]}
    later = {"results": [{"cell": "b", "streams": 2}]}

    assert [row["streams"] for row in merged([first, later])] == [1, 2]
