"""Collect what `model_store.recipes.evaluate` logged into one result file, texts left out.

    python -m benchmarks.depth --model NAME --wer WER*.jsonl | tail -n 1 > RESULT.json

With `--time`, what `evaluate time` measured goes in too. Run it where and when the logs were made: the environment is this machine's.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document

LEFT_OUT = frozenset({"key", "utterances"})


def main() -> None:
    """Print the result file as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--wer", type=Path, nargs="+", required=True)
    parser.add_argument("--time", type=Path)
    options = parser.parse_args()
    timed: dict[str, Any] = {"plans": [], "repeats": 1, "audio_s": 0.0}
    if options.time is not None:
        timed = json.loads(options.time.read_text(encoding="utf-8"))
    run = Run(
        benchmark="depth",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={"model": options.model, "threads": 1, "timed_audio_s": timed["audio_s"]},
        warm_up=0,
        repeats=timed["repeats"],
    )
    cases = without_texts(options.wer)
    print(json.dumps(document(run, [*cases, *timed["plans"]])))


def without_texts(logs: Sequence[Path]) -> list[Mapping[str, object]]:
    """Read the cases of every log, without what anybody said."""
    lines = (line for log in logs for line in log.read_text(encoding="utf-8").splitlines())
    cases = [json.loads(line) for line in lines]
    return [{k: v for k, v in case.items() if k not in LEFT_OUT} for case in cases]


if __name__ == "__main__":
    main()
