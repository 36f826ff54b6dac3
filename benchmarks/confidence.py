"""How far a word's confidence tells the share of right words, by depth, before and after the map.

    python -m benchmarks.confidence --words WORDS.jsonl --figure FILE.svg | tail -n 1 > RESULT.json

Reads what `benchmarks.shipped_words` logged (raw confidences) and the map beside the weights, which
was fitted on other speech than the dev sets. The figure shows the native set: of words that are as
sure as this, how many are right.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from benchmarks.shipped_words import DEV
from model_store.decoding.confidence import ConfidenceMap, confidence_map
from model_store.depth import DepthPlan
from model_store.recipes.fit_confidence import FITTED, SETS, read_cases
from model_store.registry import weights_folder
from model_store.training.calibration import Reliability, labelled, reliability

FEWEST = 10
"""Words a dot of the figure stands for at least."""


def main() -> None:
    """Print the result file as the last line, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="moonshine-base-elastic")
    parser.add_argument("--words", type=Path, nargs="+", required=True)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    stored = (weights_folder() / options.model / "decoding.json").read_text(encoding="utf-8")
    decoding = json.loads(stored)
    made = confidence_map(decoding)
    if made is None:
        raise SystemExit(f"expected a map of confidence beside {options.model!r}, got none")
    results = rows(read_cases(options.words), made)
    for row in results:
        before, after = row["before"], row["after"]
        print(
            f"{row['set']:<11}{row['condition']:<16}{row['layers']:>3g} layers, right "
            f"{after['accuracy']:.3f}; said {before['mean_confidence']:.3f} -> "
            f"{after['mean_confidence']:.3f}; error {before['expected_error']:.3f} -> "
            f"{after['expected_error']:.3f}"
        )
    if options.figure:
        draw([row for row in results if (row["set"], row["condition"]) == (DEV[0], "clean")],
             options.figure)  # fmt: skip
    run = Run(
        benchmark="confidence",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={"model": options.model, "fitted_on": list(SETS), "map": decoding["confidence"]},
        warm_up=0,
        repeats=1,
    )
    print(json.dumps(document(run, results)))


def rows(cases: Iterable[Mapping[str, Any]], made: ConfidenceMap) -> list[dict[str, Any]]:
    """Give reliability before and after of each case of the shipped engine."""
    found: list[dict[str, Any]] = []
    for case in cases:
        if case["weights"] != FITTED:
            continue
        words = labelled(case["utterances"])
        found.append(
            {
                "set": case["corpus"],
                "condition": case["condition"],
                "fitted_on": case["corpus"] in SETS,
                "layers": DepthPlan.parse(case["plan"]).effective_layers,
                "plan": case["plan"],
                "before": asdict(reliability(words)),
                "after": asdict(reliability(words, made)),
            }
        )
    return found


def draw(results: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Draw the share of right words over what they said of themselves, by depth."""
    import matplotlib as mpl  # a second, and only where a figure is drawn

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "elastic-asr"  # the same file from the same figures
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True, layout="constrained")
    for axes, name, title in zip(
        both, ("before", "after"), ("as the decoder has it", "as it is served"), strict=True
    ):
        axes.plot((0, 1), (0, 1), color="0.7", linewidth=1)
        for row in results:
            _line(axes, Reliability(**row[name]), row["layers"])
        axes.set(title=title, xlabel="confidence", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(loc="upper left", title="effective layers: mean said, right", fontsize=8)
    both[0].set_ylabel("share of right words")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _line(axes: Any, found: Reliability, layers: float) -> None:  # noqa: ANN401 no stubs
    bins = [one for one in found.bins if one[2] >= FEWEST]
    axes.plot(
        [said for said, _, _ in bins],
        [right for _, right, _ in bins],
        marker="o",
        label=f"{layers:g}: {found.mean_confidence:.2f}, {found.accuracy:.2f}",
    )


if __name__ == "__main__":
    main()
