r"""Word errors of the engine that serves, at every plan its card shows with full context.

    OMP_NUM_THREADS=1 python -m benchmarks.served_depths --log SERVED.jsonl \
        --native MANIFEST --held-out MANIFEST --non-native MANIFEST

The log has the form of `evaluate wer`'s and goes on where it was stopped. Given to the card after
that one, its words take the place of PyTorch's; masks and untrained plans stay PyTorch's.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from model_store.decoding.reading import WindowTranscript
from model_store.depth import DepthPlan, PlanCatalogue
from model_store.recipes.evaluate import Case, cases, line, logged
from model_store.registry import DEFAULT_MODEL
from model_store.text.wer import total
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
                print(f"{case.key} {total(h.errors for h in heard).rate:.2%}", flush=True)


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
