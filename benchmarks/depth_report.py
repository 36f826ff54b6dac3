"""The table and the figure of `depth_table`: one row a policy and budget, seeds put together."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_store.text.wer import WordErrors, bootstrap_interval

COLUMNS = (
    "model", "policy", "layers", "WER % (95 %)", "sd over seeds", "encoder GMAC/s", "GMAC/s",
    "parameters M", "real-time factor", "training s", "teacher s",
)  # fmt: skip
SATURATED = 0.5
"""A word error rate above which differences say nothing."""


def rows(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put the seeds of one model, policy and budget together; deepest first."""
    groups: dict[tuple[str, str, float], list[Mapping[str, Any]]] = defaultdict(list)
    for case in found:
        groups[case["model"], case["policy"], case["layers"]].append(case)
    made: list[dict[str, Any]] = []
    for (model, policy, layers), cases in groups.items():
        # The seeds hear the same utterances: what is drawn anew is an utterance with all its seeds.
        by_utterance: dict[str, WordErrors] = {}
        for case in cases:
            for name, one in case["errors"].items():
                known = by_utterance.get(name, WordErrors(0, 0, 0, 0))
                by_utterance[name] = known + WordErrors(**one)
        rates = [case["wer"] for case in cases]
        row: dict[str, Any] = {
            "model": model,
            "policy": policy,
            "layers": layers,
            "wer": statistics.mean(rates),
            "interval": bootstrap_interval(list(by_utterance.values())),
            "sd": statistics.stdev(rates) if len(rates) > 1 else None,
        }
        for name in ("encoder_macs_per_s", "macs_per_s", "parameters", "realtime_factor"):
            row[name] = statistics.mean(case[name] for case in cases)
        for name in ("trained_s", "teacher_s"):
            row[name] = cases[0].get(name)
        made.append(row)
    order = {name: place for place, name in enumerate(dict.fromkeys(c["model"] for c in found))}
    return sorted(made, key=lambda row: (order[row["model"]], row["policy"], -row["layers"]))


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """Write the table; the interval is over utterances, each with all its seeds; the deviation over seeds."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for row in rows(found):
        low, high = row["interval"]
        cells = (
            row["model"],
            row["policy"],
            f"{row['layers']:g}",
            f"{100 * row['wer']:.1f} ({100 * low:.1f}-{100 * high:.1f})",
            "-" if row["sd"] is None else f"{100 * row['sd']:.1f}",
            f"{row['encoder_macs_per_s'] / 1e9:.3f}",
            f"{row['macs_per_s'] / 1e9:.3f}",
            f"{row['parameters'] / 1e6:.1f}",
            f"{row['realtime_factor']:.3f}",
            *(
                "-" if row[name] is None else f"{row[name]:.0f}"
                for name in ("trained_s", "teacher_s")
            ),
        )
        lines.append(f"| {' | '.join(cells)} |")
    saturated = sorted(
        {row["model"] for row in rows(found) if row["policy"] == "full" and row["wer"] > SATURATED}
    )
    if saturated:
        lines += ["", f"Saturated at full depth, so that nothing follows: {', '.join(saturated)}."]
    return "\n".join(lines) + "\n"


def figure(found: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Draw word error rate against operations, a line for each model and policy."""
    import matplotlib as mpl  # seconds, and only here

    mpl.use("svg")
    from matplotlib import pyplot as plt

    lines: dict[tuple[str, str], list[tuple[float, float, float, float]]] = defaultdict(list)
    for row in rows(found):
        low, high = row["interval"]
        point = (2 * row["macs_per_s"] / 1e9, 100 * row["wer"], 100 * low, 100 * high)
        lines[row["model"], row["policy"]].append(point)
    drawn, axes = plt.subplots(figsize=(7.5, 4.8))
    for (model, policy), points in lines.items():
        flops, rates, lows, highs = zip(*sorted(points), strict=True)
        below = [max(0.0, rate - low) for rate, low in zip(rates, lows, strict=True)]
        above = [max(0.0, high - rate) for rate, high in zip(rates, highs, strict=True)]
        axes.errorbar(
            flops, rates, yerr=(below, above), marker="o", capsize=2, label=f"{model}, {policy}"
        )
    axes.set_xlabel("GFLOP for a second of audio")
    axes.set_ylabel("word error rate, %")
    axes.set_ylim(0, min(100, axes.get_ylim()[1]))
    axes.legend(fontsize="x-small")
    drawn.tight_layout()
    drawn.savefig(out)
    plt.close(drawn)
