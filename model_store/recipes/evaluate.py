r"""Measure a checkpoint by depth: word errors and operations of every budget, and CPU time.

    python -m model_store.recipes.evaluate wer --model DIR --untrained DIR --out FILE.jsonl \
        --native MANIFEST --held-out MANIFEST --non-native MANIFEST [--part 1/2]
    python -m model_store.recipes.evaluate time --model DIR --native MANIFEST --out FILE.json

`wer` writes a line a case and goes on where it was stopped; several parts may run side by side.
`card` (a program of its own) makes tables and the card of the lines.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from model_store.checkpoint import load_checkpoint
from model_store.depth import DepthPlan
from model_store.registry import Recogniser
from model_store.text.wer import total
from model_store.training.measure import Heard, Recording, hear, held_out_recordings

SETS = ("native", "held_out", "non_native")
CHUNK_FRAMES = 24
OTHER_CHUNKS = (16, 48)
TIMED_S = 30.0
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One model at one depth under one mask on one set."""

    weights: str
    policy: str
    plan: str
    chunk_frames: int | None
    corpus: str

    @property
    def key(self) -> str:
        """Tells cases apart in the log."""
        mask = "full" if self.chunk_frames is None else str(self.chunk_frames)
        return f"{self.weights}/{self.policy}/{self.plan}/{mask}/{self.corpus}"


def main() -> None:
    """Run one of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("wer", "time"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--untrained", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    for name in SETS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path)
    parser.add_argument("--part", default="1/1")
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = {"trained": Recogniser(options.model.name, load_checkpoint(options.model))}
    if options.untrained:
        models["untrained"] = Recogniser("untrained", load_checkpoint(options.untrained))
    corpora = {
        name: held_out_recordings(getattr(options, name))
        for name in SETS
        if getattr(options, name) is not None
    }
    if options.what == "wer":
        part, parts = map(int, options.part.split("/"))
        measure_wer(models, corpora, options.out, part - 1, parts)
    else:
        measured = measure_time(models["trained"], corpora["native"])
        options.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def cases(model: Recogniser, corpora: Sequence[str]) -> Iterator[Case]:
    """List what the card shows, the most wanted first."""
    ladder = [("ladder", plan) for plan in model.catalogue.plans("ladder")]
    skip = [("skip", plan) for plan in model.catalogue.plans("skip")[1:]]
    native = [name for name in corpora if name != "non_native"]
    for corpus in corpora:
        plans = ladder if corpus == "non_native" else ladder + skip
        yield from (Case("trained", policy, str(p), None, corpus) for policy, p in plans)
    yield from (Case("untrained", policy, str(p), None, "native") for policy, p in ladder + skip)
    for corpus in native:
        plans = ladder + skip if corpus == "native" else ladder
        yield from (Case("trained", policy, str(p), CHUNK_FRAMES, corpus) for policy, p in plans)
        for chunk_frames, drop in itertools.product(OTHER_CHUNKS, (0.0, 0.5)):
            plan = str(model.catalogue.choose(drop))
            yield Case("trained", "ladder", plan, chunk_frames, corpus)
    for policy in ("uniform", "first-k", "every-other", "random-k"):
        for plan in model.catalogue.plans(policy)[1:]:
            yield Case("trained", policy, str(plan), None, "native")
    for _, plan in ladder:
        yield Case("untrained", "ladder", str(plan), CHUNK_FRAMES, "native")
        if "non_native" in corpora:
            yield Case("trained", "ladder", str(plan), CHUNK_FRAMES, "non_native")


def measure_wer(
    models: dict[str, Recogniser],
    corpora: dict[str, list[Recording]],
    out: Path,
    part: int,
    parts: int,
) -> None:
    """Measure every case that no log beside `out` holds yet."""
    todo = list(cases(models["trained"], list(corpora)))[part::parts]
    done = {
        json.loads(line)["key"]
        for log in out.parent.glob(f"{out.stem.split('-part')[0]}*.jsonl")
        for line in log.read_text(encoding="utf-8").splitlines()
    }
    with out.open("a", encoding="utf-8") as log:
        for case in todo:
            if case.key in done or case.weights not in models:
                continue
            heard = hear(
                models[case.weights],
                corpora[case.corpus],
                DepthPlan.parse(case.plan),
                case.chunk_frames,
            )
            log.write(json.dumps(line(case, heard)) + "\n")
            log.flush()
            print(f"{case.key} {total(h.errors for h in heard).rate:.2%}", flush=True)


def line(case: Case, heard: Sequence[Heard]) -> dict[str, object]:
    """Give a case's result as one line of the log."""
    audio_s = sum(item.audio_s for item in heard)
    return {
        "key": case.key,
        **asdict(case),
        "wer": total(item.errors for item in heard).rate,
        "flops_per_s": sum(item.flops for item in heard) / audio_s,
        "encoder_flops_per_s": sum(item.encoder_flops for item in heard) / audio_s,
        "utterances": {
            item.id: {"text": item.text, "errors": asdict(item.errors)} for item in heard
        },
    }


def measure_time(model: Recogniser, recordings: Sequence[Recording]) -> dict[str, object]:
    """Measure CPU seconds of one thread for a second of audio, one utterance at a time."""
    timed: list[Recording] = []
    for recording in recordings:
        if sum(len(item.samples) for item in timed) < TIMED_S * 16_000:
            timed.append(recording)
    audio_s = sum(len(item.samples) for item in timed) / 16_000
    plans = [*model.catalogue.plans("ladder"), *model.catalogue.plans("skip")[1:]]
    rows: list[dict[str, object]] = []
    for plan in plans:
        spent = [_cpu_s(model, timed, plan) / audio_s for _ in range(REPEATS)]
        row: dict[str, object] = {
            "plan": str(plan),
            "effective_layers": plan.effective_layers,
            "cpu_s_per_s": statistics.median(spent),
            "low": min(spent),
            "high": max(spent),
        }
        rows.append(row)
        print(row, flush=True)
    return {"audio_s": audio_s, "utterances": len(timed), "repeats": REPEATS, "plans": rows}


def _cpu_s(model: Recogniser, recordings: Sequence[Recording], plan: DepthPlan) -> float:
    started = time.process_time()
    for recording in recordings:
        model.transcribe_windows([recording.samples], plan)
    return time.process_time() - started


if __name__ == "__main__":
    main()
