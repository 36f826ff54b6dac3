r"""Compare students trained by different recipes at the same depths, on held-out speech.

    python -m model_store.recipes.compare --student NAME=DIR ... --plan PLAN ... \
        --held-out MANIFEST ... --out FILE.json

Prints a Markdown table: word error rate of each student at each plan with its interval, and the
ratio to the first student with its paired interval.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from model_store.checkpoint import load_checkpoint
from model_store.depth import DepthPlan
from model_store.registry import Recogniser
from model_store.text.wer import WordErrors, bootstrap_interval, paired_ratio_interval, total
from model_store.training.measure import hear, held_out_recordings


def main() -> None:
    """Compare from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", action="append", required=True, help="NAME=FOLDER")
    parser.add_argument("--plan", action="append", required=True)
    parser.add_argument("--held-out", type=Path, nargs="+", required=True)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recordings = [r for m in options.held_out for r in held_out_recordings(m, options.every)]
    plans = [DepthPlan.parse(text) for text in options.plan]
    errors: dict[str, dict[str, list[WordErrors]]] = {str(plan): {} for plan in plans}
    for student in options.student:
        name, _, folder = student.partition("=")
        model = Recogniser(name, load_checkpoint(Path(folder)))
        for plan in plans:
            errors[str(plan)][name] = [item.errors for item in hear(model, recordings, plan)]
    print(
        f"| plan | recipe | WER % (95 %) | over the first (95 %) |  ({len(recordings)} utterances)"
    )
    print("|---|---|---|---|")
    for plan, by_student in errors.items():
        first = next(iter(by_student.values()))
        for name, found in by_student.items():
            low, high = bootstrap_interval(found)
            rate = total(found).rate
            against = paired_ratio_interval(found, first)
            print(
                f"| `{plan}` | {name} | {100 * rate:.1f} ({100 * low:.1f}-{100 * high:.1f}) "
                f"| {rate / total(first).rate:.2f} ({against.low:.2f}-{against.high:.2f}) |"
            )
    written = {
        plan: {name: asdict(total(found)) for name, found in by_student.items()}
        for plan, by_student in errors.items()
    }
    options.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
