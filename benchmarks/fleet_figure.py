"""Draw runs of a fleet over time: lag, depth, replicas and streams, of one load.

    python -m benchmarks.fleet_figure RESULT.json... --load step --mode detailed real \
        --peak 87 --out docs/figures/fleet_step.svg

Results are those of `benchmarks.fleet_simulate` and `benchmarks.fleet_step`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SMOOTHED = 5
"""Moments that a lag is the median of: a second of few streams says little."""
PANELS = (
    ("lag_p95_s", "lag of captions, 95th percentile, s"),
    ("debt", "share of the depth given up"),
    ("replicas", "replicas that run"),
    ("streams", "streams in work (thin: refused, asking again)"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, nargs="+")
    parser.add_argument("--load", default="step")
    parser.add_argument("--mode", nargs="+", default=["detailed"])
    parser.add_argument("--system", nargs="+", default=["depth", "replicas", "both"])
    parser.add_argument("--peak", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    lines = {
        label: line
        for path in options.result
        for label, line in lines_of(json.loads(path.read_text("utf-8")), options).items()
    }
    draw(lines, options.out)


def lines_of(
    content: Mapping[str, Any], options: argparse.Namespace
) -> dict[str, dict[str, list[float | None]]]:
    """Give what each run was over time, by its label: a column for each field of a moment."""
    fields: list[str] = content["config"]["moment"]
    wanted = {
        "load": [options.load],
        "mode": options.mode,
        "system": options.system,
        "peak": [options.peak],
    }
    rows = [
        row
        for row in content["results"]
        if row["what"] == "run" and all(row[name] in values for name, values in wanted.items())
    ]
    return {
        f"{row['system']}, {row['mode']}": dict(
            zip(fields, map(list, zip(*row["moments"], strict=True)), strict=True)
        )
        for row in rows
    }


def smoothed(values: Sequence[float | None]) -> list[float | None]:
    """Give the running median; None where nothing is known around."""
    found: list[float | None] = []
    for place in range(len(values)):
        near = [
            one
            for one in values[max(0, place - SMOOTHED // 2) : place + SMOOTHED // 2 + 1]
            if one is not None
        ]
        found.append(sorted(near)[len(near) // 2] if near else None)
    return found


def draw(lines: Mapping[str, Mapping[str, Sequence[float | None]]], out: Path) -> None:
    """Draw a panel for each figure, a line for each run."""
    import matplotlib as mpl  # seconds, and only here

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(len(PANELS), 1, figsize=(9, 9), sharex=True)
    for (name, title), panel in zip(PANELS, panels, strict=True):
        for number, (label, line) in enumerate(lines.items()):
            color = f"C{number}"
            values = smoothed(line[name]) if name == "lag_p95_s" else line[name]
            panel.plot(line["at_s"], values, label=label, color=color, lw=1.2)
            if name == "streams":
                panel.plot(line["at_s"], line["waiting"], color=color, lw=0.5)
        panel.set_title(title, fontsize=9)
        panel.grid(alpha=0.3)
    panels[0].axhline(1.0, color="gray", lw=0.8, ls="--")
    panels[0].set_ylim(0, 2)
    panels[0].legend(fontsize=8)
    panels[-1].set_xlabel("seconds")
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


if __name__ == "__main__":
    main()
