r"""What the shipped engine says, word by word, beside published models: quiet, noisy, by telephone.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.shipped_words --peers CACHE --log WORDS.jsonl \
        --native MANIFEST --non-native MANIFEST --held-out MANIFEST --synthetic MANIFEST \
        --read MANIFEST --noise MANIFEST

The engine is the one that serves (int8 ONNX where the processor has it), one thread. The dev sets
are heard as they are, with noise 10 dB below the speech, and over an 8 kHz telephone, at the
budgets of `evaluate.CONDITION_LAYERS` and by published Moonshine base in the same run; the other
sets, which confidence is fitted on, as they are and with noise. An utterance without a transcript
has the published model's text of the clean recording as its reference.
The log has a line a case in the form of `evaluate`'s, the words' raw confidences besides, and goes on
where it was stopped. It holds texts, so it stays out of the repository: `benchmarks.conditions` and
`model_store.recipes.fit_confidence` read it.
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.peers.base import Peer
from benchmarks.peers.catalogue import build
from model_store.decoding.confidence import KEY
from model_store.decoding.reading import WindowTranscript
from model_store.depth import DepthPlan
from model_store.recipes.evaluate import Case, Sounds, line, logged, under_conditions
from model_store.text.wer import total
from model_store.training.conditions import CONDITIONS, read_noise
from model_store.training.measure import (
    Heard,
    Recording,
    Transcribe,
    hear_with,
    held_out_recordings,
)
from service.engine.onnx.checkpoint import Floats, open_checkpoint
from service.engine.onnx.processor import read_processor
from service.engine.onnx.recogniser import OnnxRecogniser

DEV = ("native", "non_native")
CALIBRATION = ("held_out", "synthetic", "read")
PEER = "moonshine-base-onnx"
STATIC = "static"
"""Policy of a model that has one depth."""


def main() -> None:
    """Listen from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="moonshine-base-elastic")
    parser.add_argument("--engine-cache", type=Path, default=Path.home() / ".cache/elastic-asr")
    parser.add_argument("--peers", type=Path, required=True, help="as given to peers.fetch")
    for name in (*DEV, *CALIBRATION):
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path)
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    checkpoint = open_checkpoint(options.model)
    raw = {name: value for name, value in checkpoint.decoding.items() if name != KEY}
    model = OnnxRecogniser(
        dataclasses.replace(checkpoint, decoding=raw),
        options.engine_cache,
        read_processor().numerics,
        1,
    )
    peer = build(PEER, options.peers)
    known = references(options.log) if options.log.exists() else {}
    corpora = {
        name: with_references(held_out_recordings(getattr(options, name)), known, peer)
        for name in (*CALIBRATION, *DEV)
        if getattr(options, name) is not None
    }
    sounds = Sounds(corpora, read_noise(options.noise))
    done = logged(options.log)
    with options.log.open("a", encoding="utf-8") as log:
        for case in _cases(model, list(corpora)):
            if case.key not in done:
                recordings = sounds.under(case.corpus, case.condition)
                heard = hear_with(_listener(case, model, peer), recordings)
                log.write(json.dumps(with_words(case, recordings, heard)) + "\n")
                log.flush()
                print(f"{case.key} {total(h.errors for h in heard).rate:.2%}", flush=True)


def references(log: Path) -> dict[str, str]:
    """Give the references that a log holds, by id."""
    cases = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return {id_: item["reference"] for case in cases for id_, item in case["utterances"].items()}


def with_references(
    recordings: Sequence[Recording], known: Mapping[str, str], teacher: Peer
) -> list[Recording]:
    """Give recordings nobody wrote down a text that is known already, or the teacher's."""
    found: list[Recording] = []
    for item in recordings:
        text = item.reference or known.get(item.utterance.id)
        if text is None:
            text = teacher.transcribe(item.samples)
        found.append(dataclasses.replace(item, reference=text))
    return found


def with_words(
    case: Case, recordings: Sequence[Recording], heard: Sequence[Heard]
) -> dict[str, object]:
    """Give a case's line: `evaluate`'s, and of each utterance its reference and words."""
    words = {
        item.id: {
            "text": item.text,
            "reference": recording.reference,
            "errors": dataclasses.asdict(item.errors),
            "words": [[word.text, round(word.confidence, 5)] for word in item.words],
        }
        for recording, item in zip(recordings, heard, strict=True)
    }
    return {**line(case, heard), "utterances": words}


def _cases(model: OnnxRecogniser, corpora: Sequence[str]) -> Iterator[Case]:
    dev = [name for name in corpora if name in DEV]
    fitted = [name for name in corpora if name not in DEV]
    catalogue = model.catalogue
    for corpus, condition in itertools.product(dev, CONDITIONS):
        yield from _shipped(under_conditions(catalogue, [corpus], [condition]))
        yield Case(PEER, STATIC, STATIC, None, corpus, condition)
    for condition in CONDITIONS[:2]:
        yield from _shipped(under_conditions(catalogue, fitted, [condition]))


def _shipped(listed: Iterable[Case]) -> Iterator[Case]:
    return (dataclasses.replace(case, weights="shipped") for case in listed)


def _listener(case: Case, model: OnnxRecogniser, peer: Peer) -> Transcribe:
    def shipped(windows: Sequence[Floats]) -> Sequence[WindowTranscript]:
        return model.transcribe_windows(windows, DepthPlan.parse(case.plan))

    def published(windows: Sequence[Floats]) -> Sequence[WindowTranscript]:
        return [_said(peer.transcribe(samples)) for samples in windows]

    return published if case.policy == STATIC else shipped


def _said(text: str) -> WindowTranscript:
    return WindowTranscript(
        text, (), 0, 0.0, 0.0, flops=0, encoder_flops=0, full_flops=0, encode_s=0.0, decode_s=0.0
    )


if __name__ == "__main__":
    main()
