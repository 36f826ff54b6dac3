r"""Word errors of the engine that serves, at every plan its card shows with full context.

    OMP_NUM_THREADS=1 python -m benchmarks.served_depths --log SERVED.jsonl \
        --native MANIFEST --held-out MANIFEST --non-native MANIFEST \
        > benchmarks/results/served-depths_HARDWARE_DATE.json

The log has the form of `evaluate wer`'s and goes on where it was stopped. Given to the card after
that one, its words take the place of PyTorch's; masks and untrained plans stay PyTorch's. Ends with one JSON line.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.decoding.reading import WindowTranscript
from model_store.depth import DepthPlan, PlanCatalogue
from model_store.recipes.evaluate import Case, cases, line, logged
from model_store.registry import DEFAULT_MODEL
from model_store.text.wer import WordErrors, bootstrap_interval, total
from model_store.training.measure import Transcribe, hear_with, held_out_recordings
from service.engine.onnx.checkpoint import Floats, open_checkpoint
from service.engine.onnx.processor import read_processor
from service.engine.onnx.recogniser import OnnxRecogniser

SETS = ("native", "held_out", "non_native")


def main() -> None:
    """Listen from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine-cache", type=Path, default=Path.home() / ".cache/elastic-asr")
    for name in SETS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    started = datetime.now(UTC)
    checkpoint = open_checkpoint(options.model)
    model = OnnxRecogniser(checkpoint, options.engine_cache, read_processor().numerics, 1)
    corpora = {
        name: held_out_recordings(getattr(options, name))
        for name in SETS
        if getattr(options, name) is not None
    }
    done = logged(options.log) if options.log.exists() else set[str]()
    with options.log.open("a", encoding="utf-8") as log:
        for case in served(model.catalogue, list(corpora)):
            if case.key not in done:
                heard = hear_with(listener(model, case), corpora[case.corpus])
                log.write(json.dumps(line(case, heard)) + "\n")
                log.flush()
                print(f"{case.key} {total(h.errors for h in heard).rate:.2%}", file=sys.stderr)
    run = Run(
        benchmark="served-depths",
        started=started,
        environment=read_environment(("numpy", "onnxruntime")),
        config={
            "model": options.model,
            "engine": f"onnx, {model.numerics}",
            "sets": {name: len(recordings) for name, recordings in corpora.items()},
            "resumed": bool(done),  # then `started` is of the last of several calls
        },
        warm_up=0,
        repeats=1,
    )
    print(json.dumps(document(run, rows_of(options.log))))


def rows_of(log: Path) -> list[Mapping[str, object]]:
    """Give a row for every case of a log: its rate with a 95 % interval, its FLOPs, no texts."""
    rows: list[Mapping[str, object]] = []
    for text in log.read_text(encoding="utf-8").splitlines():
        case = json.loads(text)
        errors = [WordErrors(**item["errors"]) for item in case["utterances"].values()]
        low, high = bootstrap_interval(errors)
        kept = ("corpus", "policy", "plan", "wer", "flops_per_s", "encoder_flops_per_s")
        rows.append({**{name: case[name] for name in kept}, "wer_low": low, "wer_high": high})
    return rows


def served(catalogue: PlanCatalogue, corpora: Sequence[str]) -> Iterator[Case]:
    """Give the card's cases that an engine can answer: its own weights, all of the audio heard."""
    for case in cases(catalogue, corpora):
        if case.weights == "trained" and case.chunk_frames is None:
            yield case


def listener(model: OnnxRecogniser, case: Case) -> Transcribe:
    """Give what transcribes windows at a case's plan."""

    def transcribe(windows: Sequence[Floats]) -> Sequence[WindowTranscript]:
        return model.transcribe_windows(windows, DepthPlan.parse(case.plan), words=False)

    return transcribe


if __name__ == "__main__":
    main()
