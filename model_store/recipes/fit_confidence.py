r"""Fit what a word's raw confidence stands for, and store it beside the weights.

    python -m model_store.recipes.fit_confidence --words WORDS.jsonl --model DIR

Reads what the shipped engine said on held-out speech (`benchmarks.shipped_words`), all depths and
conditions together: one map, so that confidence falls with depth as accuracy does. Of three, none,
one by the word alone and one by its utterance too, the one with the best likelihood on sets it was
not fitted on is written into `decoding.json`. The dev sets are left out.
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
    joined,
    labelled,
    left_out_likelihood,
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
    sets = fitted_on(read_cases(options.words))
    words = joined(sets)
    losses = {name: left_out_likelihood(sets, fit) for name, fit in FITS.items()}
    for name, loss in losses.items():
        made = FITS[name](words)
        found = reliability(words, made)
        print(
            f"{name}: {loss:.4f} nats a word on the set left out; fitted on all {len(words)}: "
            f"expected calibration error {found.expected_error:.4f}, {made.as_json()}"
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


def fitted_on(cases: Iterable[Mapping[str, Any]]) -> list[LabelledWords]:
    """Label the words of `SETS`, each set's together.

    Raises:
        SystemExit: there are fewer than two sets.
    """
    by_set: dict[str, list[LabelledWords]] = {}
    for case in cases:
        if case["weights"] == FITTED and case["corpus"] in SETS:
            by_set.setdefault(case["corpus"], []).append(labelled(case["utterances"]))
    if len(by_set) < 2:  # noqa: PLR2004 one is left out
        raise SystemExit(f"expected two of {SETS} or more by {FITTED!r}, got {sorted(by_set)}")
    return [joined(parts) for parts in by_set.values()]


if __name__ == "__main__":
    main()
