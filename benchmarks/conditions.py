"""Word errors of the shipped engine, quiet, noisy and by telephone, beside published Moonshine base.

    python -m benchmarks.conditions --words WORDS.jsonl | tail -n 1 > RESULT.json

Reads what `benchmarks.shipped_words` logged in one run, on the machine it ran on. A row has the
rate of normalised text with its interval, its ratio to the published model's under the same
condition on the same utterances, substitutions, deletions and insertions apart, and, where the
references are written as people write, the rate of the texts as they are: case, punctuation and
numerals count there.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from benchmarks.shipped_words import DEV, PEER
from model_store.depth import DepthPlan
from model_store.recipes.fit_confidence import read_cases
from model_store.text.wer import (
    WordErrors,
    bootstrap_interval,
    paired_ratio_interval,
    total,
    word_errors,
)

WRITTEN = ("native", "held_out")
"""Sets whose references have case and punctuation."""
STATED = (*DEV, "held_out")


def main() -> None:
    """Print the result file as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="moonshine-base-elastic")
    parser.add_argument("--words", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    results = rows(read_cases(options.words))
    for row in results:
        print(
            f"{row['system']:<20}{row['layers'] or '':>4}  {row['set']:<11}{row['condition']:<16}"
            f"{100 * row['wer']:6.1f}"
        )
    run = Run(
        benchmark="conditions",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={"model": options.model, "threads": 1, "noise": "10 dB below, root mean square"},
        warm_up=0,
        repeats=1,
    )
    print(json.dumps(document(run, results)))


def rows(cases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give a row a case of the sets that figures are stated on."""
    stated = [case for case in cases if case["corpus"] in STATED]
    published = {
        (case["corpus"], case["condition"]): _errors(case)
        for case in stated
        if case["weights"] == PEER
    }
    return [row(case, published.get((case["corpus"], case["condition"]))) for case in stated]


def row(case: Mapping[str, Any], published: Mapping[str, WordErrors] | None) -> dict[str, Any]:
    """Give one case's figures; the ratio only where the published model heard the same."""
    errors = _errors(case)
    ids = sorted(errors)
    mine: Sequence[WordErrors] = [errors[id_] for id_ in ids]
    shipped = case["weights"] != PEER
    summed = total(mine)
    found: dict[str, Any] = {
        "system": case["weights"],
        "layers": DepthPlan.parse(case["plan"]).effective_layers if shipped else None,
        "plan": case["plan"] if shipped else None,
        "set": case["corpus"],
        "condition": case["condition"],
        "utterances": len(mine),
        **asdict(summed),
        "wer": summed.rate,
        "interval": list(bootstrap_interval(mine)),
        "over_published": None,
        "written": None,
    }
    if shipped and published is not None and set(published) == set(ids):
        theirs = [published[id_] for id_ in ids]
        found["over_published"] = {
            "ratio": summed.rate / total(theirs).rate,
            "interval": list(paired_ratio_interval(mine, theirs)),
        }
    if case["corpus"] in WRITTEN:
        raw = total(
            word_errors(item["reference"], item["text"]) for item in case["utterances"].values()
        )
        found["written"] = asdict(raw) | {"wer": raw.rate}
    return found


def _errors(case: Mapping[str, Any]) -> dict[str, WordErrors]:
    return {id_: WordErrors(**item["errors"]) for id_, item in case["utterances"].items()}


if __name__ == "__main__":
    main()
