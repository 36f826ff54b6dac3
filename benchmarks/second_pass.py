r"""Which captions are worth hearing twice: words lost by the share of audio that is, chosen by doubt.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.second_pass --manifest SET/manifest.tsv [...] \
        > benchmarks/results/second-pass_HARDWARE_DATE.json

Every held-out utterance is streamed through the int8 engine once with a final of one pass and once
with two. Utterances are put in the order of what the service knows before it pays for the second:
their doubt, 1 less the mean confidence of the words of the last partial. Beside it, a random order.
Ends with one JSON line.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.depth import DepthPlan
from model_store.registry import DEFAULT_MODEL
from model_store.text.wer import WordErrors, normalised_word_errors
from model_store.training.measure import Recording, held_out_recordings
from service.engine.base import SAMPLE_RATE_HZ, Engine, LiveInput, LiveOutput, PlanInUse, Word
from service.engine.onnx import create_onnx_engine
from service.streaming.utterance import Utterance

SHARES = (0.0, 0.1, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 0.9, 1.0)
MOST_STREAMS = 24
NUM_ORDERS = 50
"""Random orders, whose mean is stated."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance: its length, its doubt before the last step, its errors."""

    seconds: float
    doubt: float
    errors: WordErrors


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--drop", type=float, nargs="+", default=[0.0, 0.5, 0.625])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/elastic-asr")
    options = parser.parse_args()
    engine = create_onnx_engine(options.model, num_threads=1, cache=options.cache)
    chunk_samples = round(engine.load().chunk_s * SAMPLE_RATE_HZ)
    recordings = [r for path in options.manifest for r in held_out_recordings(path)]
    recordings.sort(key=lambda recording: len(recording.samples))
    run = Run(
        benchmark="second-pass",
        started=datetime.now(UTC),
        environment=read_environment(("numpy", "onnxruntime")),
        config={
            "model": options.model,
            "sets": [path.resolve().parent.name for path in options.manifest],
            "utterances": len(recordings),
            "random_orders": NUM_ORDERS,
        },
        warm_up=0,
        repeats=1,
    )
    rows: list[Mapping[str, object]] = []
    for drop in options.drop:
        plan = engine.choose(drop, None, "ladder")
        once = stream_all(engine, recordings, plan, chunk_samples, second_pass=False)
        twice = stream_all(engine, recordings, plan, chunk_samples, second_pass=True)
        rows.append({"plan": str(DepthPlan(plan.strides)), **words_lost(once, twice)})
    print(json.dumps(document(run, rows)))


def stream_all(
    engine: Engine,
    recordings: Sequence[Recording],
    plan: PlanInUse,
    chunk_samples: int,
    *,
    second_pass: bool,
) -> list[Heard]:
    """Stream recordings side by side, chunk by chunk; in the order given."""
    heard: list[Heard] = []
    for start in range(0, len(recordings), MOST_STREAMS):
        batch = recordings[start : start + MOST_STREAMS]
        states = [engine.open_utterance() for _ in batch]
        words: list[tuple[Word, ...]] = [()] * len(batch)
        doubts = [1.0] * len(batch)
        for at in range(0, max(len(one.samples) for one in batch), chunk_samples):
            due = [place for place, one in enumerate(batch) if at < len(one.samples)]
            end = at + chunk_samples
            inputs = [
                LiveInput(
                    states[place],
                    batch[place].samples[at:end],
                    plan,
                    ends=(ends := end >= len(batch[place].samples)),
                    second_pass=ends and second_pass,
                )
                for place in due
            ]
            for place, output in zip(due, stepped(engine, inputs), strict=True):
                known = Utterance(0, 0, 0, words=words[place])
                words[place], doubts[place] = output.words, known.doubt
        heard += [
            Heard(
                len(one.samples) / SAMPLE_RATE_HZ,
                doubt,
                normalised_word_errors(one.reference, " ".join(word.text for word in said)),
            )
            for one, doubt, said in zip(batch, doubts, words, strict=True)
        ]
    return heard


def stepped(engine: Engine, inputs: Sequence[LiveInput]) -> list[LiveOutput]:
    """Run a step, and further ones for whose words took more than one."""
    outputs = list(engine.step(inputs))
    while waiting := [place for place, output in enumerate(outputs) if not output.done]:
        further = [replace(inputs[place], samples=inputs[place].samples[:0]) for place in waiting]
        for place, output in zip(waiting, engine.step(further), strict=True):
            outputs[place] = output
    return outputs


def words_lost(once: Sequence[Heard], twice: Sequence[Heard]) -> dict[str, object]:
    """Give the word error rate by the share of audio heard twice, and doubts at those shares."""
    seconds = np.array([one.seconds for one in once])
    doubt = np.array([one.doubt for one in once])
    first = np.array([one.errors.errors for one in once], float)
    second = np.array([one.errors.errors for one in twice], float)
    num_words = sum(one.errors.reference_words for one in once)
    orders = [np.random.default_rng(seed).permutation(len(once)) for seed in range(NUM_ORDERS)]

    def rates(order: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        share = np.cumsum(seconds[order]) / seconds.sum()
        errors = first.sum() - np.cumsum((first - second)[order])
        return np.interp(SHARES, [0.0, *share], [first.sum(), *errors]) / num_words

    by_doubt = np.argsort(-doubt)
    reached = np.cumsum(seconds[by_doubt]) / seconds.sum()
    return {
        "words": num_words,
        "shares": list(SHARES),
        "wer_by_doubt": rates(by_doubt).tolist(),
        "wer_at_random": np.mean([rates(order) for order in orders], axis=0).tolist(),
        "least_doubt": np.interp(SHARES, [0.0, *reached], [1.0, *doubt[by_doubt]]).tolist(),
    }


if __name__ == "__main__":
    main()
