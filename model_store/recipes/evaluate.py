r"""Measure a checkpoint by depth: word errors and operations of every budget, and CPU time.

    python -m model_store.recipes.evaluate wer --model DIR --untrained DIR --out FILE.jsonl \
        --native MANIFEST --held-out MANIFEST --non-native MANIFEST [--part 1/2] \
        [--condition noisy-10db --condition telephone-8khz --noise MANIFEST]
    python -m model_store.recipes.evaluate time --model DIR --native MANIFEST --out FILE.json

`wer` writes a line a case and goes on where it was stopped; several parts may run side by side.
With conditions, the budgets of `CONDITION_LAYERS` are measured under each instead.
`card` (a program of its own) makes tables and the card of the lines.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model_store.checkpoint import load_checkpoint
from model_store.depth import DepthPlan, PlanCatalogue
from model_store.registry import Recogniser
from model_store.text.wer import total
from model_store.training.conditions import CONDITIONS, Condition, read_noise, under_condition
from model_store.training.measure import Heard, Recording, hear, held_out_recordings

SETS = ("native", "held_out", "non_native")
CHUNK_FRAMES = 24
OTHER_CHUNKS = (16, 48)
CONDITION_LAYERS = (8.0, 4.0, 3.0, 2.0)
TIMED_S = 30.0
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One model at one depth under one mask on one set, as it is or under a condition."""

    weights: str
    policy: str
    plan: str
    chunk_frames: int | None
    corpus: str
    condition: Condition = "clean"

    @property
    def key(self) -> str:
        """Tells cases apart in the log."""
        mask = "full" if self.chunk_frames is None else str(self.chunk_frames)
        under = "" if self.condition == "clean" else f"@{self.condition}"
        return f"{self.weights}/{self.policy}/{self.plan}/{mask}/{self.corpus}{under}"


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
    parser.add_argument("--condition", action="append", choices=CONDITIONS, default=[])
    parser.add_argument("--noise", type=Path, help="manifest of what is mixed in")
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
        trained = models["trained"]
        todo = list(
            under_conditions(trained.catalogue, list(corpora), options.condition)
            if options.condition
            else cases(trained.catalogue, list(corpora))
        )
        noise = read_noise(options.noise) if options.noise else []
        measure_wer(models, Sounds(corpora, noise), todo[part - 1 :: parts], options.out)
    else:
        measured = measure_time(models["trained"], corpora["native"])
        options.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def cases(catalogue: PlanCatalogue, corpora: Sequence[str]) -> Iterator[Case]:
    """List what the card shows, the most wanted first."""
    ladder = [("ladder", plan) for plan in catalogue.plans("ladder")]
    skip = [("skip", plan) for plan in catalogue.plans("skip")[1:]]
    native = [name for name in corpora if name != "non_native"]
    for corpus in corpora:
        plans = ladder if corpus == "non_native" else ladder + skip
        yield from (Case("trained", policy, str(p), None, corpus) for policy, p in plans)
    yield from (Case("untrained", policy, str(p), None, "native") for policy, p in ladder + skip)
    for corpus in native:
        plans = ladder + skip if corpus == "native" else ladder
        yield from (Case("trained", policy, str(p), CHUNK_FRAMES, corpus) for policy, p in plans)
        for chunk_frames, drop in itertools.product(OTHER_CHUNKS, (0.0, 0.5)):
            plan = str(catalogue.choose(drop))
            yield Case("trained", "ladder", plan, chunk_frames, corpus)
    for policy in ("uniform", "first-k", "every-other", "random-k"):
        for plan in catalogue.plans(policy)[1:]:
            yield Case("trained", policy, str(plan), None, "native")
    for _, plan in ladder:
        yield Case("untrained", "ladder", str(plan), CHUNK_FRAMES, "native")
        if "non_native" in corpora:
            yield Case("trained", "ladder", str(plan), CHUNK_FRAMES, "non_native")


def under_conditions(
    catalogue: PlanCatalogue, corpora: Iterable[str], conditions: Iterable[Condition]
) -> Iterator[Case]:
    """List the ladder's budgets of `CONDITION_LAYERS` on every set under every condition."""
    plans = [p for p in catalogue.plans("ladder") if p.effective_layers in CONDITION_LAYERS]
    for condition, corpus, plan in itertools.product(conditions, corpora, plans):
        yield Case("trained", "ladder", str(plan), None, corpus, condition)


class Sounds:
    """Corpora as they are and under conditions; the last one asked for is kept.

    Args:
        corpora: by name.
        noise: what a noisy condition mixes in.
    """

    def __init__(
        self, corpora: Mapping[str, list[Recording]], noise: Sequence[npt.NDArray[np.float32]]
    ) -> None:
        self._corpora = corpora
        self._noise = noise
        self._last: tuple[tuple[str, Condition], list[Recording]] | None = None

    def under(self, corpus: str, condition: Condition) -> list[Recording]:
        """Give a corpus under a condition."""
        if self._last is None or self._last[0] != (corpus, condition):
            made = list(under_condition(self._corpora[corpus], condition, self._noise))
            self._last = (corpus, condition), made
        return self._last[1]


def measure_wer(
    models: Mapping[str, Recogniser], sounds: Sounds, todo: Iterable[Case], out: Path
) -> None:
    """Measure every case that no log beside `out` holds yet."""
    done = logged(out)
    with out.open("a", encoding="utf-8") as log:
        for case in todo:
            if case.key in done or case.weights not in models:
                continue
            heard = hear(
                models[case.weights],
                sounds.under(case.corpus, case.condition),
                DepthPlan.parse(case.plan),
                case.chunk_frames,
            )
            log.write(json.dumps(line(case, heard)) + "\n")
            log.flush()
            print(f"{case.key} {total(h.errors for h in heard).rate:.2%}", flush=True)


def logged(out: Path) -> set[str]:
    """Give the keys of the cases that `out` or a log of another part beside it holds."""
    return {
        json.loads(line)["key"]
        for log in out.parent.glob(f"{out.stem.split('-part')[0]}*.jsonl")
        for line in log.read_text(encoding="utf-8").splitlines()
    }


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
