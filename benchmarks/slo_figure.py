r"""Draw what `benchmarks.slo` measured: lag, words and depth against load, and a load's end.

    python -m benchmarks.slo_figure benchmarks/results/slo_....json --out docs/figures/slo.svg

Prints a table for the documents: a row for each cell.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

Row = Mapping[str, Any]  # JSON, at the edge

STYLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "fixed-full": ("o-", "#555555"),
        "fixed-half": ("s-", "#b5651d"),
        "switching": ("^-", "#8a2f6b"),
        "slack": ("D--", "#3a8a4d"),
        "brownout": ("o-", "#1b6ca8"),
        "bending": ("*:", "#1b6ca8"),
    }
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure against load."""

    title: str
    value: Callable[[Row], float | None]
    limit: float | None = None
    logarithmic: bool = False


def panels() -> tuple[Panel, ...]:
    """List what is drawn."""
    return (
        Panel("audio with captions within 1 s, %", _percent("in_time_share"), 99.0),
        Panel("lag, 95th percentile, s", _p95("lag_s"), 1.0, logarithmic=True),
        Panel("between partials, 95th percentile, s", _p95("partial_interval_s"), 1.0),
        Panel("words settled within 2 s, %", _percent("stable_share"), 90.0),
        Panel("word error rate of finals, %", _percent("wer")),
        Panel("effective layers, mean", _plain("mean_layers")),
    )


def main() -> None:
    """Draw and print from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "results",
        type=Path,
        nargs="+",
        help="cells of a later file replace those of an earlier one",
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    results = merged([json.loads(path.read_text(encoding="utf-8")) for path in options.results])
    full, floor = (capacity(results, name) for name in ("full", "floor"))
    rows = measured(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(rows, full, floor, options.out)
    print("\n".join(table(rows, full)))


def merged(files: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Give the rows of all files; of two of one cell the later file's."""
    return list({row["cell"]: row for content in files for row in content["results"]}.values())


def capacity(rows: Sequence[Row], depth: str) -> int:
    """Give the streams that a depth keeps up with."""
    return next(int(row["streams"]) for row in rows if row["cell"] == f"capacity-{depth}")


def measured(rows: Sequence[Row]) -> list[Row]:
    """Leave out searches and cells that failed."""
    return [row for row in rows if row["kind"] != "capacity" and "failed" not in row]


def curve(
    rows: Sequence[Row], system: str, value: Callable[[Row], float | None], full: int
) -> list[tuple[float, float]]:
    """Give a system's points: load over full-depth capacity, and the value where there is one."""
    found = [
        (row["streams"] / max(1, full), value(row))
        for row in rows
        if row["system"] == system and row["kind"] == "steady"
    ]
    return sorted((load, y) for load, y in found if y is not None)


def table(rows: Sequence[Row], full: int) -> list[str]:
    """Give a Markdown table."""
    lines = [
        (
            "| system | load | streams | in time % | lag p50/p95/p99 s | first words p50/p95 s "
            "| partials p95 s | settled % | final p95 s | refused | dropped s | layers | changes | WER % "
            "| FLOPs % |"
        ),
        "|---" * 15 + "|",
    ]
    for row in sorted(rows, key=lambda one: (one["kind"], one["streams"], one["system"])):
        lag, first = row["lag_s"] or {}, row["first_partial_s"] or {}
        cells = (
            row["system"] if row["kind"] == "steady" else row["cell"],
            f"{row['load']} ({row['streams'] / max(1, full):.2f}x)",
            row["streams"],
            _told(_percent("in_time_share")(row), 1),
            "/".join(_told(lag.get(p), 2) for p in ("p50", "p95", "p99")),
            "/".join(_told(first.get(p), 2) for p in ("p50", "p95")),
            _told(_p95("partial_interval_s")(row), 2),
            _told(_percent("stable_share")(row), 1),
            _told(_p95("final_s")(row), 2),
            row["refused"],
            _told(row["dropped_s"], 0),
            _told(row["mean_layers"], 2),
            row["depth_changes"]["most_of_a_stream"],
            _told(_percent("wer")(row), 1),
            _told(_percent("flops_share")(row), 0),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def draw(rows: Sequence[Row], full: int, floor: int, out: Path) -> None:
    """Draw all panels with one legend."""
    import matplotlib as mpl  # seconds, and only here

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(2, 3, figsize=(12, 6.6), sharex=True)
    for axes, panel in zip(grid.flat, panels(), strict=True):
        for system, (style, colour) in STYLES.items():
            points = curve(rows, system, panel.value, full)
            if points:
                loads, values = zip(*points, strict=True)
                axes.plot(loads, values, style, color=colour, label=system, markersize=5)
        if panel.limit is not None:
            axes.axhline(panel.limit, color="#c0392b", linewidth=0.8)
        axes.axvline(floor / max(1, full), color="#999999", linewidth=0.8, linestyle=":")
        axes.set_title(panel.title, fontsize=9)
        axes.grid(alpha=0.3)
        if panel.logarithmic:
            axes.set_yscale("log")
    for axes in grid[-1]:
        axes.set_xlabel("streams over what full depth keeps up with")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(STYLES), fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(out)


def _percent(name: str) -> Callable[[Row], float | None]:
    return lambda row: None if row.get(name) is None else 100 * float(row[name])


def _plain(name: str) -> Callable[[Row], float | None]:
    return lambda row: None if row.get(name) is None else float(row[name])


def _p95(name: str) -> Callable[[Row], float | None]:
    return lambda row: None if row.get(name) is None else float(row[name]["p95"])


def _told(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


if __name__ == "__main__":
    main()
