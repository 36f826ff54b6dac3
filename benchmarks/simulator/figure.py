"""Runs by load as a picture: captions in time, depth given up, words paid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PANELS = (
    ("slo_lag", "share of audio captioned within 1 s"),
    ("depth_debt", "share of the depth given up"),
    ("wer_ratio", "word errors over those at full depth"),
)


def draw(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Draw a row of panels for each trace, a line for each policy."""
    import matplotlib as mpl  # seconds, and only here

    mpl.use("svg")
    from matplotlib import pyplot as plt

    traces = list(dict.fromkeys(row["trace"] for row in rows))
    figure, panels = plt.subplots(
        len(traces), len(PANELS), figsize=(12, 3.2 * len(traces)), squeeze=False
    )
    for trace, line in zip(traces, panels, strict=True):
        for (name, title), panel in zip(PANELS, line, strict=True):
            for policy in dict.fromkeys(row["policy"] for row in rows):
                points = [
                    (row["peak"], row[name])
                    for row in rows
                    if (row["trace"], row["policy"]) == (trace, policy) and row[name] is not None
                ]
                panel.plot(*zip(*sorted(points), strict=True), "o-", label=policy)
            panel.set_xlabel(f"streams at the peak, {trace}")
            panel.set_title(title, fontsize=9)
            panel.grid(alpha=0.3)
        line[0].legend(fontsize=8)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
