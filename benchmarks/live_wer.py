"""Word error rate of what is served live: the int8 engine fed chunk by chunk, as a stream is.

    python -m benchmarks.live_wer --manifest DEV/manifest.tsv [--manifest ...] > live-wer.json

For each depth, on the same utterances of all sets pooled: full context, finals of one pass, finals
that hear the utterance twice, and float32 beside int8; then streams that change between two depths
at random chunks, beside the worse of the two kept throughout. Ratios are paired, with the 90 %
interval that the product's limits are held against. Ends with one JSON line.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.decoding.live_step import LiveRequest
from model_store.decoding.live_utterance import LiveUtterance
from model_store.decoding.reading import WindowTranscript
from model_store.depth import DepthPlan
from model_store.registry import DEFAULT_MODEL
from model_store.text.wer import (
    WordErrors,
    bootstrap_interval,
    normalised_word_errors,
    paired_ratio_interval,
    total,
)
from model_store.training.measure import Recording, hear_with, held_out_recordings
from service.engine.onnx.checkpoint import Floats, open_checkpoint
from service.engine.onnx.live import create_live_runner
from service.engine.onnx.live_decoder import DecoderState
from service.engine.onnx.live_encoder import EncoderState
from service.engine.onnx.processor import Numerics, read_processor
from service.engine.onnx.recogniser import OnnxRecogniser

CHUNK_SAMPLES = 9216
MOST_STREAMS = 24
CONFIDENCE = 0.9

Utterance: TypeAlias = LiveUtterance[EncoderState, DecoderState]
Errors: TypeAlias = Sequence[WordErrors]
Choose: TypeAlias = Callable[[int], DepthPlan]
"""The plan of an utterance's next chunk, by the utterance's place."""


def main() -> None:
    """Measure what the command line asks for."""
    options = _parse()
    recordings = [r for path in options.manifest for r in held_out_recordings(path)]
    int8 = read_processor().numerics
    served = _recogniser(options, int8)
    chosen = [served.catalogue.choose(drop) for drop in options.drop]
    run = Run(
        benchmark="live-wer",
        started=datetime.now(UTC),
        environment=read_environment(("numpy", "onnxruntime")),
        config={
            "model": options.model,
            "sets": [path.resolve().parent.name for path in options.manifest],
            "utterances": len(recordings),
            "engine": f"onnx, {int8}",
            "chunk_samples": CHUNK_SAMPLES,
            "confidence": CONFIDENCE,
            "seed": options.seed,
        },
        warm_up=0,
        repeats=1,
    )
    rows: list[Mapping[str, object]] = []
    kept: dict[DepthPlan, Errors] = {}
    for plan in chosen:
        full = full_context(served, recordings, plan)
        rows.append(_row(plan, "full context", full, {}))
        kept[plan] = stream_all(served, recordings, _always(plan))
        rows.append(_row(plan, "one pass", kept[plan], {"full_context": full}))
        twice = stream_all(served, recordings, _always(plan), second_pass=True)
        rows.append(_row(plan, "two passes", twice, {"full_context": full}))
    for one, other in pairwise(chosen):
        errors = stream_all(served, recordings, _switching(one, other, options.seed))
        worse = max(kept[one], kept[other], key=lambda kind: total(kind).rate)
        rows.append(_row(f"{one} or {other}", "one pass", errors, {"worse_kept": worse}))
    exact = _recogniser(options, "float32")
    for plan in chosen[:2]:
        errors = stream_all(exact, recordings, _always(plan))
        rows.append(_row(plan, "one pass, float32", errors, {"int8": kept[plan]}))
    print(json.dumps(document(run, rows)))


def full_context(model: OnnxRecogniser, recordings: Sequence[Recording], plan: DepthPlan) -> Errors:
    """Transcribe whole utterances."""

    def transcribe(windows: Sequence[Floats]) -> Sequence[WindowTranscript]:
        return model.transcribe_windows(windows, plan, words=False)

    return [heard.errors for heard in hear_with(transcribe, recordings)]


def stream_all(
    model: OnnxRecogniser,
    recordings: Sequence[Recording],
    choose: Choose,
    *,
    second_pass: bool = False,
) -> Errors:
    """Run recordings as streams, batched by length; errors in the order given."""
    runner = create_live_runner(model)
    text: dict[int, str] = {}
    places = sorted(range(len(recordings)), key=lambda place: len(recordings[place].samples))
    for start in range(0, len(places), MOST_STREAMS):
        batch = places[start : start + MOST_STREAMS]
        utterances = {place: runner.open_utterance() for place in batch}
        chunks = _chunks(recordings, utterances, choose, second_pass=second_pass)
        for due, requests in chunks:
            for place, request, result in zip(due, requests, runner.step(requests), strict=True):
                if request.ends:
                    text[place] = " ".join(word.text for word in result.words)
    return [
        normalised_word_errors(recording.reference, text[place])
        for place, recording in enumerate(recordings)
    ]


def _chunks(
    recordings: Sequence[Recording],
    utterances: Mapping[int, Utterance],
    choose: Choose,
    *,
    second_pass: bool,
) -> Iterator[tuple[list[int], list[LiveRequest[Utterance]]]]:
    """Yield who is due, and with what, until all have ended."""
    at = 0
    while due := [place for place in utterances if at < len(recordings[place].samples)]:
        end = at + CHUNK_SAMPLES
        requests: list[LiveRequest[Utterance]] = []
        for place in due:
            samples = recordings[place].samples
            ends = end >= len(samples)
            requests.append(
                LiveRequest(
                    utterances[place], samples[at:end], choose(place), ends=ends,
                    second_pass=ends and second_pass,
                )
            )  # fmt: skip
        yield due, requests
        at = end


def _always(plan: DepthPlan) -> Choose:
    return lambda place: plan


def _switching(one: DepthPlan, other: DepthPlan, seed: int) -> Choose:
    """Draw one of two plans for each chunk."""
    rng = np.random.default_rng(seed)
    return lambda place: one if rng.random() < 0.5 else other


def _recogniser(options: argparse.Namespace, numerics: Numerics) -> OnnxRecogniser:
    return OnnxRecogniser(open_checkpoint(options.model), options.cache, numerics, 1)


def _row(
    plan: DepthPlan | str, how: str, errors: Errors, beside: Mapping[str, Errors]
) -> dict[str, object]:
    rate = total(errors).rate
    row: dict[str, object] = {"plan": str(plan), "how": how, "wer": rate}
    row["wer_interval"] = list(bootstrap_interval(errors, CONFIDENCE))
    for name, baseline in beside.items():
        row[f"over_{name}"] = rate / total(baseline).rate
        row[f"over_{name}_interval"] = list(paired_ratio_interval(errors, baseline, CONFIDENCE))
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--drop", type=float, nargs="+", default=[0.0, 0.5, 0.625, 0.75])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/elastic-asr")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
