r"""Fit what a word's raw confidence stands for, and store it beside the weights.

    python -m model_store.recipes.fit_confidence --words WORDS.jsonl --model DIR

Reads what the shipped engine said on held-out speech (`benchmarks.shipped_words`), all depths and
conditions together: one map, so that confidence falls with depth as accuracy does. Of three, none,
two numbers (Platt) and a rising line (isotonic), the one with the best likelihood on utterances it
was not fitted on is written into `decoding.json`. The dev sets are left out.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_store.decoding.confidence import KEY
from model_store.training.calibration import (
    FITS,
    LabelledWords,
    cross_validated,
    joined,
    labelled,
    reliability,
)

SETS = ("held_out", "synthetic", "read")
"""Held-out speech that no final figure is stated on."""
FITTED = "shipped"


def main() -> None:
    """Fit from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=Path, nargs="+", required=True)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    words = fitted_on(read_cases(options.words))
    losses = {name: cross_validated(words, fit) for name, fit in FITS.items()}
    for name, loss in losses.items():
        found = reliability(words, FITS[name](words))
        print(
            f"{name}: {loss:.4f} nats a word, cross-validated; fitted on all {len(words)}: "
            f"expected calibration error {found.expected_error:.4f}"
        )
    best = min(losses, key=losses.__getitem__)
    made = FITS[best](words)
    path = options.model / "decoding.json"
    decoding = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    decoding[KEY] = {"fit": best, "words": len(words), **made.as_json()}
    path.write_text(json.dumps(decoding, indent=1) + "\n", encoding="utf-8")
    print(f"{best} is in {path.name}")


def read_cases(logs: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the cases of logs."""
    return [
        json.loads(text) for log in logs for text in log.read_text(encoding="utf-8").splitlines()
    ]


def fitted_on(cases: Iterable[Mapping[str, Any]]) -> LabelledWords:
    """Label the words of `SETS`; an utterance keeps its fold at every depth and condition.

    Raises:
        SystemExit: there are none.
    """
    parts = [
        labelled(case["utterances"])
        for case in cases
        if case["weights"] == FITTED and case["corpus"] in SETS
    ]
    if not sum(map(len, parts)):
        raise SystemExit(f"expected words of {SETS} by {FITTED!r}, got none")
    return joined(parts)


if __name__ == "__main__":
    main()
