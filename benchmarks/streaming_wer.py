r"""Word error rate of live streams: the incremental decoder fed chunk by chunk, as a stream is.

    python -m benchmarks.streaming_wer --model moonshine-base-elastic --manifest DEV/manifest.tsv \
        --plan 1,1,1,1,1,1,1,1 --plan 2,2,2,2,2,2,2,2 [--rule both:0.4] [--every 1] [--two-pass]

A manifest's held-out utterances run side by side in batches. Beside each plan's one-pass finals
stand full context and the offline decode under the same chunk mask, on the same utterances;
ratios are paired, with their 90 % interval. Also told: how long after its end a word settles
(median and 90th percentile; a word's end is by alignment), how many words of a caption change in
the next one, and operations. Prints a table and, last, one JSON line.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.depth import DepthPlan
from model_store.registry import DEFAULT_MODEL, Recogniser, load
from model_store.registry.live import LiveOptions, LiveRecogniser, LiveUtterance
from model_store.text.agreement import CommitRule, Method
from model_store.text.wer import (
    WordErrors,
    bootstrap_interval,
    normalised_word_errors,
    paired_ratio_interval,
    total,
)
from model_store.training.measure import Recording, hear, held_out_recordings

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 384
MOST_STREAMS = 24
CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of running streams; `every` counts the chunks from one update to the next."""

    chunk_frames: int
    rule: CommitRule
    reuse: bool
    every: int
    two_pass: bool = False

    def as_json(self) -> dict[str, object]:
        """Give what a result file says of it."""
        return {
            "chunk_frames": self.chunk_frames,
            "method": self.rule.method,
            "agreeing": self.rule.agreeing,
            "edge_s": self.rule.edge_s,
            "min_logprob": max(self.rule.min_logprob, -99.0),
            "reuse": self.reuse,
            "every": self.every,
            "two_pass": self.two_pass,
        }


@dataclass(slots=True)
class Stream:
    """One recording on its way through, and what its captions did."""

    recording: Recording
    utterance: LiveUtterance
    fed: int = 0
    words: list[str] = field(default_factory=list[str])
    settled_s: list[float] = field(default_factory=list[float])
    changed: int = 0
    captions: int = 0
    flops: int = 0
    encoder_flops: int = 0
    lag_s: list[float] = field(default_factory=list[float])

    @property
    def ended(self) -> bool:
        """Whether all samples were fed."""
        return self.fed >= len(self.recording.samples)

    def request(self, variant: Variant, plan: DepthPlan) -> LiveRequest[LiveUtterance]:
        """Give the next chunk's worth of samples."""
        size = variant.chunk_frames * FRAME_SAMPLES
        samples = self.recording.samples[self.fed : self.fed + size]
        self.fed += size
        turn = self.fed // size % variant.every == 0
        ends = self.ended
        return LiveRequest(self.utterance, samples, plan, turn, ends, ends and variant.two_pass)

    def take(self, result: LiveResult) -> None:
        """Note what became of the caption."""
        words = [word.text for word in result.words]
        kept = sum(
            1
            for _ in itertools.takewhile(
                lambda pair: pair[0] == pair[1], zip(self.words, words, strict=False)
            )
        )
        if not self.ended:
            self.captions += 1
            self.changed += len(self.words) - kept
        now_s = min(self.fed, len(self.recording.samples)) / SAMPLE_RATE_HZ
        self.settled_s += [now_s] * (result.stable_words - len(self.settled_s))
        self.words = words
        self.flops += result.cost.flops
        self.encoder_flops += result.cost.encoder_flops
        if self.ended:
            ends_s = [word.end_s for word in result.words]
            self.lag_s = [s - e for s, e in zip(self.settled_s, ends_s, strict=False)]


def main() -> None:
    """Measure what the command line asks for."""
    options = _parse()
    torch.set_num_threads(1)
    model = load(options.model)
    recordings = [r for path in options.manifest for r in held_out_recordings(path, options.nth)]
    run = Run(
        benchmark="streaming-wer",
        started=datetime.now(UTC),
        environment=read_environment(("numpy", "torch")),
        config={
            "model": options.model,
            "sets": [path.resolve().parent.name for path in options.manifest],
            "utterances": len(recordings),
            "threads": 1,
            "precision": model.precision,
        },
        warm_up=0,
        repeats=1,
    )
    print(
        f"{'plan':<18}{'how':<34}{'WER %':>7}{'/full':>7}{'/mask':>18}{'settles s':>13}{'changed':>9}"
    )
    rows: list[dict[str, object]] = []
    for text in options.plan or [str(plan) for plan in model.catalogue.offered]:
        rows += measure_plan(model, recordings, DepthPlan.parse(text), variants(options))
    print(json.dumps(document(run, rows)))


def variants(options: argparse.Namespace) -> list[Variant]:
    """List what the command line spans; two-pass finals come last."""
    spanned = itertools.product(
        options.chunk_frames, options.rule, options.agreeing, options.feed, options.every
    )
    found = [
        Variant(chunk_frames, _rule(rule, agreeing), feed == "reuse", every)
        for chunk_frames, rule, agreeing, feed, every in spanned
    ]
    if options.two_pass:
        found.append(
            Variant(
                options.chunk_frames[0],
                _rule(options.rule[0], options.agreeing[0]),
                reuse=True,
                every=1,
                two_pass=True,
            )
        )
    return found


def measure_plan(
    model: Recogniser, recordings: Sequence[Recording], plan: DepthPlan, ways: Sequence[Variant]
) -> Iterator[dict[str, object]]:
    """Yield a row for full context, for each mask, and for each way of streaming."""
    full = [item.errors for item in hear(model, recordings, plan)]
    yield _row(plan, "full context", full, full, None)
    for chunk_frames in dict.fromkeys(way.chunk_frames for way in ways):
        masked = [item.errors for item in hear(model, recordings, plan, chunk_frames)]
        yield _row(plan, f"offline, masks of {chunk_frames}", masked, full, masked)
        for way in ways:
            if way.chunk_frames != chunk_frames:
                continue
            streams = stream_all(model, recordings, plan, way)
            errors = [
                normalised_word_errors(s.recording.reference, " ".join(s.words)) for s in streams
            ]
            yield {**_row(plan, _named(way), errors, full, masked, streams), **way.as_json()}


def stream_all(
    model: Recogniser, recordings: Sequence[Recording], plan: DepthPlan, way: Variant
) -> list[Stream]:
    """Run recordings as streams, batched by length; in the order given."""
    live = LiveRecogniser(
        model, LiveOptions(chunk_frames=way.chunk_frames, rule=way.rule, reuse=way.reuse)
    )
    streams = [Stream(recording, live.open_utterance()) for recording in recordings]
    by_length = sorted(streams, key=lambda stream: len(stream.recording.samples))
    for start in range(0, len(by_length), MOST_STREAMS):
        batch = by_length[start : start + MOST_STREAMS]
        while due := [stream for stream in batch if not stream.ended]:
            results = live.step([stream.request(way, plan) for stream in due])
            for stream, result in zip(due, results, strict=True):
                stream.take(result)
    return streams


def _row(
    plan: DepthPlan,
    how: str,
    errors: Sequence[WordErrors],
    full: Sequence[WordErrors],
    masked: Sequence[WordErrors] | None,
    streams: Sequence[Stream] = (),
) -> dict[str, object]:
    rate = total(errors).rate
    low, high = bootstrap_interval(errors)
    row: dict[str, object] = {
        "plan": str(plan), "how": how, "wer": rate, "wer_low": low, "wer_high": high,
        "over_full": rate / total(full).rate,
        "over_full_interval": list(paired_ratio_interval(errors, full, CONFIDENCE)),
    }  # fmt: skip
    told = f"{plan!s:<18}{how:<34}{100 * rate:>7.2f}{rate / total(full).rate:>7.2f}"
    if masked is not None:
        over = rate / total(masked).rate
        interval = paired_ratio_interval(errors, masked, CONFIDENCE)
        row |= {"over_masked": over, "over_masked_interval": list(interval)}
        told += f"{over:>6.2f} {interval.low:.2f}-{interval.high:.2f}"
    if streams:
        row |= (found := _told(streams))
        told += "{lag_median_s:>6.2f}{lag_p90_s:>6.2f}{changed_words:>8.2f}".format(**found)
        told += " {gflop_per_s:.2f} GFLOP/s".format(**found)
    print(told, flush=True)
    return row


def _told(streams: Sequence[Stream]) -> dict[str, float]:
    audio_s = sum(len(stream.recording.samples) for stream in streams) / SAMPLE_RATE_HZ
    lags = [lag for stream in streams for lag in stream.lag_s] or [0.0]
    captions = max(1, sum(stream.captions for stream in streams))
    return {
        "lag_median_s": statistics.median(lags),
        "lag_p90_s": float(np.quantile(lags, 0.9)),
        "changed_words": sum(stream.changed for stream in streams) / captions,
        "gflop_per_s": sum(stream.flops for stream in streams) / audio_s / 1e9,
        "encoder_gflop_per_s": sum(stream.encoder_flops for stream in streams) / audio_s / 1e9,
    }


def _named(way: Variant) -> str:
    feed = "reuse" if way.reuse else "anew"
    passes = ", two-pass" if way.two_pass else ""
    return f"{way.rule.method} {way.rule.agreeing} {way.rule.edge_s:g} s {way.rule.min_logprob:g}, {feed}, every {way.every}{passes}"


def _rule(text: str, agreeing: int) -> CommitRule:
    """Read METHOD, METHOD:EDGE_S or METHOD:EDGE_S:MIN_LOGPROB."""
    name, *numbers = text.split(":")
    method = next((one for one in get_args(Method) if one == name), None)
    if method is None:
        raise SystemExit(f"expected one of {get_args(Method)}, got {name!r}")
    given = dict(zip(("edge_s", "min_logprob"), map(float, numbers), strict=False))
    return replace(CommitRule(method=method, agreeing=agreeing), **given)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--nth", type=int, default=1, help="every n-th utterance alone")
    parser.add_argument("--plan", action="append", help="default: the ladder")
    parser.add_argument("--chunk-frames", type=int, action="append")
    parser.add_argument("--rule", action="append", help="METHOD[:EDGE_S[:MIN_LOGPROB]]")
    parser.add_argument("--agreeing", type=int, action="append", help="updates in a row")
    parser.add_argument("--feed", action="append", choices=("reuse", "anew"))
    parser.add_argument("--every", type=int, action="append")
    parser.add_argument("--two-pass", action="store_true")
    options = parser.parse_args()
    options.chunk_frames = options.chunk_frames or [24]
    options.rule = options.rule or [CommitRule().method]
    options.agreeing = options.agreeing or [CommitRule().agreeing]
    options.feed = options.feed or ["reuse"]
    options.every = options.every or [1]
    return options


if __name__ == "__main__":
    main()
