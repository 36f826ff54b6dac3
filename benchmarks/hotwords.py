"""What hotwords do: how many rare words are found, how many are heard that nobody said, and what else changes.

    python -m benchmarks.hotwords --words WORDS.txt --manifest SAID/manifest.tsv \
        --manifest OTHER/manifest.tsv --ids OTHER.txt [--bonus 2,4]

Each utterance is decoded with a list of its own: the words of the file that its reference holds,
and others up to the list's length, drawn by seed. Sets whose references hold none of them show
false alarms alone. Every utterance is encoded once a depth, by the served engine's graphs, and
decoded once for each list, without the second try that a served file has.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.corpus import Utterance, read_ids, read_manifest, read_samples, restrict
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.decoding.hotwords import Bonus, HotwordLists
from model_store.decoding.reading import DecodingOptions
from model_store.text.normalise import normalise
from model_store.text.wer import (
    WordErrors,
    normalised_word_errors,
    paired_difference_interval,
    total,
)
from service.engine.onnx.checkpoint import SAMPLE_RATE_HZ, open_checkpoint
from service.engine.onnx.encoder import Memory
from service.engine.onnx.processor import read_processor
from service.engine.onnx.recogniser import OnnxRecogniser

LENGTHS = (0, 10, 100)
"""Of the lists; the first is what all others are compared with."""

SEED = 0


@dataclass(slots=True)
class Tally:
    """What one set gave at one depth, one bonus and one length of lists.

    Args:
        errors: of each utterance.
        said, found: hotwords of the lists in references, and in hypotheses as well.
        alarms: hotwords of the lists in hypotheses beyond those said.
        decode_s: time in the decoder.
    """

    errors: list[WordErrors] = field(default_factory=list[WordErrors])
    said: int = 0
    found: int = 0
    alarms: int = 0
    decode_s: float = 0.0

    def add(self, reference: str, text: str, words: Sequence[str]) -> None:
        """Count an utterance; `words` are all that could be on its list."""
        self.errors.append(normalised_word_errors(reference, text))
        said, heard = (Counter(normalise(one).split()) for one in (reference, text))
        for word in {normalise(one) for one in words}:
            self.said += said[word]
            self.found += min(said[word], heard[word])
            self.alarms += max(0, heard[word] - said[word])


def main() -> None:
    """Measure, and print a table and one JSON line."""
    options = _parse()
    words = options.words.read_text(encoding="utf-8").split()
    utterances = [one for path in options.manifest for one in read_manifest(path)]
    if options.ids:
        listed = read_ids(options.ids)
        sets = {one.partition("/")[0] for one in listed}
        rest = [one for one in utterances if one.set_name not in sets]
        named = [one for one in utterances if one.set_name in sets]
        utterances = rest + restrict(named, listed)
    utterances = utterances[:: options.nth]
    model = OnnxRecogniser(
        open_checkpoint(options.model), options.cache, read_processor().numerics, num_threads=1
    )
    rows: list[dict[str, object]] = []
    for drop in options.drop:
        rows += measured(model, drop, utterances, words, options.bonus or [Bonus()])
    run = Run(
        benchmark="hotwords",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={
            "model": options.model,
            "numerics": model.numerics,
            "words": len(words),
            "lists": LENGTHS,
            "nth": options.nth,
            "seed": SEED,
            "threads": 1,
        },
        warm_up=0,
        repeats=1,
    )
    print(json.dumps(document(run, rows)))


def measured(
    model: OnnxRecogniser,
    drop: float,
    utterances: Sequence[Utterance],
    words: Sequence[str],
    bonuses: Sequence[Bonus],
) -> list[dict[str, object]]:
    """Decode all utterances at one depth, with every bonus and every length of lists."""
    plan = model.catalogue.choose(drop)
    lists = {bonus: HotwordLists(model.tokenizer, bonus) for bonus in bonuses}
    tallies: dict[tuple[str, Bonus, int], Tally] = {}
    for utterance in utterances:
        samples = read_samples(utterance)
        memories = model.encoder.encode([samples], plan)
        draw = random.Random(f"{SEED} {utterance.id}")
        for length in LENGTHS:
            asked = list_for(utterance, words, length, draw)
            for bonus in bonuses if length else bonuses[:1]:
                tally = tallies.setdefault((utterance.set_name, bonus, length), Tally())
                began_s = time.perf_counter()
                text = _text(model, memories, len(samples), lists[bonus], asked)
                tally.decode_s += time.perf_counter() - began_s
                tally.add(utterance.reference, text, words)
    audio_s = {name: 0.0 for name, _, _ in tallies}
    for utterance in utterances:
        audio_s[utterance.set_name] += utterance.audio_s
    rows: list[dict[str, object]] = []
    for (name, bonus, length), tally in tallies.items():
        without = tallies[name, bonuses[0], 0]
        row = _row(tally, without, audio_s[name]) | {"set": name, "hotwords": length}
        row |= {"layers": plan.effective_layers, "first": bonus.first, "further": bonus.further}
        print(row, flush=True)
        rows.append(row)
    return rows


def list_for(
    utterance: Utterance, words: Sequence[str], length: int, draw: random.Random
) -> tuple[str, ...]:
    """Give an utterance's list: what it says, and others up to a length."""
    said = set(normalise(utterance.reference).split())
    own = [word for word in words if normalise(word) in said]
    others = [word for word in words if word not in own]
    chosen = [*own, *draw.sample(others, min(len(others), max(0, length - len(own))))][:length]
    draw.shuffle(chosen)
    return tuple(chosen)


def _text(
    model: OnnxRecogniser,
    memories: Sequence[Memory],
    num_samples: int,
    lists: HotwordLists,
    hotwords: Sequence[str],
) -> str:
    options = DecodingOptions()
    limit = options.spare_tokens + int(options.tokens_per_second * num_samples / SAMPLE_RATE_HZ)
    (found,) = model.decoder.greedy(memories, [limit], lists.of(hotwords))
    return model.tokenizer.decode(found.tokens)


def _row(tally: Tally, without: Tally, audio_s: float) -> dict[str, object]:
    low, high = paired_difference_interval(tally.errors, without.errors)
    return {
        "utterances": len(tally.errors),
        "audio_s": round(audio_s, 1),
        "wer": round(total(tally.errors).rate, 4),
        "wer_added": round(total(tally.errors).rate - total(without.errors).rate, 4),
        "wer_added_interval": [round(low, 4), round(high, 4)],
        "said": tally.said,
        "recall": round(tally.found / tally.said, 4) if tally.said else None,
        "false_alarms": tally.alarms,
        "decode_s": round(tally.decode_s, 3),
    }


def _bonus(text: str) -> Bonus:
    first, further = map(float, text.split(","))
    return Bonus(first, further)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=Path, required=True, help="hotwords, one a line")
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--ids", type=Path, action="append", help="of the sets they name, these")
    parser.add_argument("--nth", type=int, default=1, help="every n-th utterance alone")
    parser.add_argument("--drop", type=float, action="append", help="default: 0 and 0.5")
    parser.add_argument("--bonus", type=_bonus, action="append", help="FIRST,FURTHER")
    parser.add_argument("--model", default="moonshine-base-elastic")
    parser.add_argument("--cache", type=Path, required=True, help="of the engine's graphs")
    options = parser.parse_args()
    options.drop = options.drop or [0.0, 0.5]
    return options


if __name__ == "__main__":
    main()
