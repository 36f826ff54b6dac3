"""Transcribe manifests with static peers, one utterance at a time, and say what it cost.

    python -m benchmarks.peers.run --cache CACHE --manifest DEV/manifest.tsv --out results.json

Prints a table of word error rate and cost per peer and set and, last, one JSON line: the result
file without the texts. `--out` takes the same with every utterance's text and reference, for
scoring again; those texts belong to their corpora and stay out of the repository.
`benchmarks.peers.measure` defines the costs.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from benchmarks.corpus import Utterance, read_ids, read_manifest, read_samples, restrict
from benchmarks.hardware import read_environment
from benchmarks.peers.base import Peer
from benchmarks.peers.catalogue import PEERS, build
from benchmarks.peers.measure import Transcribed, cost, transcribe_all
from benchmarks.peers.score import score
from benchmarks.record import Run, document

DEFAULT_PEERS = (
    "moonshine-base-onnx",
    "moonshine-tiny-onnx",
    "faster-whisper-base",
    "faster-whisper-tiny.en",
)
PACKAGES = ("numpy", "onnxruntime", "tokenizers", "faster-whisper", "ctranslate2")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the peers named on the command line."""
    options = _parse(arguments)
    utterances = [one for path in options.manifest for one in read_manifest(path)]
    if options.ids:
        utterances = restrict(utterances, read_ids(options.ids))
    utterances.sort(key=lambda one: one.set_name)
    run = Run(
        benchmark="peers",
        started=datetime.now(tz=UTC),
        environment=read_environment(PACKAGES),
        config={"peers": options.peer, "threads": options.threads},
        warm_up=options.warm_up,
        repeats=options.repeats,
    )
    rows: list[dict[str, object]] = []
    texts: list[dict[str, object]] = []
    print(f"{'peer':<24}{'set':<22}{'WER %':>8}  {'95 %':<16}{'CPU s/s':>9}{'RTFX':>8}")
    for name in options.peer:
        peer = build(name, options.cache, options.threads)
        warm_up(peer, utterances[0], options.warm_up)
        for row, transcribed in measure_peer(peer, utterances, options.repeats):
            rows.append(row)
            texts.extend(one.as_json(name) for one in transcribed)
            # After every set: a run takes hours, and what it has heard should outlive it.
            content = {**document(run, rows), "utterances": texts}
            options.out.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    print(json.dumps(document(run, rows)))


def warm_up(peer: Peer, utterance: Utterance, times: int) -> None:
    """Transcribe one utterance untimed: the first run allocates and loads what later ones reuse."""
    samples = read_samples(utterance)
    for _ in range(times):
        peer.transcribe(samples)


def measure_peer(
    peer: Peer, utterances: Sequence[Utterance], repeats: int
) -> Iterator[tuple[dict[str, object], list[Transcribed]]]:
    """Yield, per set, a result's row (printed as it comes) and the texts behind it.

    Args:
        peer: A loaded peer.
        utterances: Grouped by set.
        repeats: How often each is transcribed.
    """
    for set_name, group in groupby(utterances, key=lambda one: one.set_name):
        transcribed = list(transcribe_all(peer, group, repeats=repeats))
        yield _row(peer, set_name, transcribed), transcribed


def _row(peer: Peer, set_name: str, transcribed: Sequence[Transcribed]) -> dict[str, object]:
    spent = cost(transcribed)
    errors = score((one.utterance.reference, one.text) for one in transcribed)
    rate = "-" if errors is None else f"{100 * errors.wer:.2f}"
    interval = "" if errors is None else f"{100 * errors.low:.2f} .. {100 * errors.high:.2f}"
    print(
        f"{peer.name:<24}{set_name:<22}{rate:>8}  {interval:<16}"
        f"{spent.cpu_s_per_audio_s:>9.4f}{spent.rtfx:>8.1f}",
        flush=True,
    )
    return {
        "peer": peer.name,
        "peer_config": dict(peer.config),
        "set": set_name,
        "utterances": len(transcribed),
        "wer": None if errors is None else asdict(errors),
        **asdict(spent),
        "cpu_s_per_audio_s": spent.cpu_s_per_audio_s,
        "real_time_factor": spent.real_time_factor,
        "rtfx": spent.rtfx,
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="as given to peers.fetch")
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--ids", type=Path, action="append", help="lists of ids to restrict to")
    parser.add_argument("--peer", action="append", choices=sorted(PEERS), help="default: four")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.peer = options.peer or list(DEFAULT_PEERS)
    return options


if __name__ == "__main__":
    main()
