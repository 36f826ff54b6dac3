r"""Word errors of trained students by depth and policy: a table, a figure against FLOPs, and the cost of training.

    python -m benchmarks.depth_table --model NAME=DIR ... --held-out MANIFEST ... --out FOLDER \
        [--test MANIFEST ...] [--layers 6,5,4,3] [--seeds 5] [--search MANIFEST] \
        [--references DIR] [--published conformer-ee]

Policies: `random-k` draws the layers anew for each utterance, once for every seed; `every-other`,
`first-k` and the ladder of strides are as served; `best` is the plan with the fewest errors on
`--search`, out of all or of a random sample; `input` asks the selector that is shipped with the
weights. A case that `FOLDER/cases.jsonl` holds is not measured again.
"""

import argparse
import itertools
import json
import math
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.depth_report import figure, markdown
from benchmarks.published_depths import PUBLISHED, published_table
from model_store.audio import read_audio
from model_store.backbones.parameters import parameters_used
from model_store.checkpoint import load_checkpoint
from model_store.depth import INPUT, DepthPlan
from model_store.registry import Recogniser
from model_store.text.wer import normalised_word_errors, total
from model_store.training.manifest import read_manifest
from model_store.training.measure import Heard, Recording, hear, held_out_recordings

SAMPLE_RATE_HZ = 16_000
MOST_SEARCHED = 40

PlanOf = Callable[[Recording], DepthPlan]


@dataclass(frozen=True, slots=True)
class Case:
    """One student under one policy at one number of layers; `seed` tells draws apart."""

    model: str
    policy: str
    layers: float
    seed: int

    @property
    def key(self) -> str:
        """Tells cases apart in the log."""
        return f"{self.model}/{self.policy}/{self.layers:g}/{self.seed}"


def main() -> None:
    """Measure, then write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", required=True, help="NAME=FOLDER")
    parser.add_argument("--held-out", type=Path, nargs="+", default=[])
    parser.add_argument("--test", type=Path, nargs="+", default=[], help="taken as a whole")
    parser.add_argument("--published", choices=sorted(PUBLISHED), help="table to print beside")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--layers", default="", help="numbers of layers kept; all but one by default"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--search", type=Path, help="manifest on which the best fixed plans are found"
    )
    parser.add_argument("--every", type=int, default=1, help="take every n-th utterance")
    parser.add_argument("--references", type=Path, help="of `prepare`, for the teacher's cost")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recordings = [r for m in options.held_out for r in held_out_recordings(m, options.every)]
    recordings += [r for m in options.test for r in all_recordings(m)[:: options.every]]
    if not recordings:
        parser.error("expected --held-out or --test with something to hear")
    searched = held_out_recordings(options.search, options.every) if options.search else []
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "cases.jsonl"
    for name, _, folder in (text.partition("=") for text in options.model):
        model = Recogniser(name, load_checkpoint(Path(folder)))
        wanted = [int(part) for part in options.layers.split(",") if part]
        kept = [k for k in wanted or range(model.num_layers, 1, -1) if k <= model.num_layers]
        cost = training_cost(Path(folder).parent / "log.jsonl", options.references)
        measure(model, recordings, searched, kept, options.seeds, cost, log)
    found = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    table = markdown(found)
    if options.published:
        table += "\n" + published_table(options.published)
    (options.out / "table.md").write_text(table, encoding="utf-8")
    figure(found, options.out / "wer_against_flops.svg")
    print(table)


def all_recordings(manifest: Path) -> list[Recording]:
    """Read every utterance of a test set."""
    return [Recording(u, read_audio(u.path), u.transcript) for u in read_manifest(manifest)]


def measure(
    model: Recogniser,
    recordings: Sequence[Recording],
    searched: Sequence[Recording],
    kept: Sequence[int],
    seeds: int,
    cost: dict[str, float],
    log: Path,
) -> None:
    """Append every case that the log does not hold."""
    done: set[str] = set()
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines()
        done = {json.loads(line)["key"] for line in lines}
    for case, plan_of in cases(model, searched, kept, seeds, done):
        started = time.perf_counter()
        heard, plans = hear_each(model, recordings, plan_of, by_input=case.policy == INPUT)
        took_s = time.perf_counter() - started
        line = {"key": case.key, **asdict(case), **summary(model, heard, plans, took_s), **cost}
        with log.open("a", encoding="utf-8") as target:
            target.write(json.dumps(line) + "\n")
        print(f"{case.key} {total(item.errors for item in heard).rate:.2%}", flush=True)


def cases(
    model: Recogniser,
    searched: Sequence[Recording],
    kept: Sequence[int],
    seeds: int,
    done: set[str],
) -> Iterator[tuple[Case, PlanOf]]:
    """List what is to be measured, and the plan of each utterance under it."""
    every = list(_all_cases(model, searched, kept, seeds))
    for case, make in every:
        if case.key not in done:
            yield case, make()


def _all_cases(
    model: Recogniser, searched: Sequence[Recording], kept: Sequence[int], seeds: int
) -> Iterator[tuple[Case, Callable[[], PlanOf]]]:
    name, layers, catalogue = model.name, model.num_layers, model.catalogue
    yield Case(name, "full", layers, 0), lambda: _always(DepthPlan.full(layers))
    for plan in catalogue.plans("ladder")[1:]:
        yield Case(name, "ladder", plan.effective_layers, 0), lambda p=plan: _always(p)
    for k in (k for k in kept if k < layers):
        drop = 1 - k / layers
        for policy in ("first-k", "every-other"):
            plan = catalogue.choose(drop, policy=policy)
            yield Case(name, policy, k, 0), lambda p=plan: _always(p)
        for seed in range(seeds):
            yield Case(name, "random-k", k, seed), lambda s=seed, k=k: _at_random(layers, k, s)
        if searched:
            yield (
                Case(name, "best", k, 0),
                lambda k=k: _always(best_fixed(model, searched, k)),
            )
        if catalogue.selector is not None:
            nominal = catalogue.choose(drop, policy=INPUT)
            yield (
                Case(name, INPUT, nominal.effective_layers, 0),
                lambda n=nominal: lambda recording: catalogue.heard(recording.samples, n),
            )


def best_fixed(model: Recogniser, searched: Sequence[Recording], kept: int) -> DepthPlan:
    """Give the plan with the fewest word errors, out of all with so many layers or of a sample."""
    layers = model.num_layers
    subsets = list(itertools.combinations(range(layers), kept))
    if len(subsets) > MOST_SEARCHED:
        subsets = random.Random(kept).sample(subsets, MOST_SEARCHED)
    plans = [DepthPlan.keeping(subset, layers) for subset in subsets]

    def errors(plan: DepthPlan) -> float:
        return total(item.errors for item in hear(model, searched, plan)).rate

    return min(plans, key=errors)


def hear_each(
    model: Recogniser, recordings: Sequence[Recording], plan_of: PlanOf, *, by_input: bool
) -> tuple[list[Heard], list[DepthPlan]]:
    """Transcribe every recording at its own plan, those of one plan together; in the order given."""
    plans = [plan_of(recording) for recording in recordings]
    groups: dict[DepthPlan, list[int]] = defaultdict(list)
    for place, plan in enumerate(plans):
        groups[plan].append(place)
    found: dict[int, Heard] = {}
    for plan, places in groups.items():
        heard = hear(model, [recordings[place] for place in places], plan)
        found |= dict(zip(places, heard, strict=True))
    ordered = [found[place] for place in range(len(recordings))]
    if by_input:
        ordered = [_with_selector(model, r, h) for r, h in zip(recordings, ordered, strict=True)]
    return ordered, plans


def summary(
    model: Recogniser, heard: Sequence[Heard], plans: Sequence[DepthPlan], took_s: float
) -> dict[str, Any]:
    """Give errors and costs of a case; multiply-adds are half the operations."""
    audio_s = sum(item.audio_s for item in heard)
    return {
        "wer": total(item.errors for item in heard).rate,
        "flops_per_s": sum(item.flops for item in heard) / audio_s,
        "encoder_macs_per_s": sum(item.encoder_flops for item in heard) / audio_s / 2,
        "macs_per_s": sum(item.flops for item in heard) / audio_s / 2,
        "parameters": round(statistics.mean(parameters_used(model.backbone, p) for p in plans)),
        "realtime_factor": took_s / audio_s,
        "plans": {str(plan): count for plan, count in _counted(plans)},
        "errors": {item.id: asdict(item.errors) for item in heard},
    }


def training_cost(log: Path, references: Path | None) -> dict[str, float]:
    """Give the seconds that training took, and those of the teacher over the same corpora."""
    cost: dict[str, float] = {}
    if log.exists():
        last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
        cost["trained_s"] = last["trained_s"]
    heard = references / "cost.jsonl" if references else None
    if heard is not None and heard.exists():
        lines = heard.read_text(encoding="utf-8").splitlines()
        cost["teacher_s"] = math.fsum(json.loads(line)["teacher_s"] for line in lines)
    return cost


def _with_selector(model: Recogniser, recording: Recording, heard: Heard) -> Heard:
    selector = model.catalogue.selector
    assert selector is not None, "it has picked the plans"
    spent = selector.flops(len(recording.samples))
    return Heard(
        heard.id,
        heard.text,
        normalised_word_errors(recording.reference, heard.text),
        heard.audio_s,
        heard.flops + spent,
        heard.encoder_flops + spent,
    )


def _always(plan: DepthPlan) -> PlanOf:
    return lambda recording: plan


def _at_random(layers: int, kept: int, seed: int) -> PlanOf:
    def plan_of(recording: Recording) -> DepthPlan:
        draw = random.Random(f"{seed}/{recording.utterance.id}")
        return DepthPlan.keeping(draw.sample(range(layers), kept), layers)

    return plan_of


def _counted(plans: Sequence[DepthPlan]) -> list[tuple[DepthPlan, int]]:
    return [(plan, len(list(group))) for plan, group in itertools.groupby(sorted(plans))]


if __name__ == "__main__":
    main()
