r"""Find the plans a model offers: for each budget the one that did best on held-out speech.

First every candidate is screened by the error of the encoder's output against the full teacher's,
both as the decoder sees them (pooled), on a little speech; then the best few are compared by word
error rate. References of untranscribed
speech are the full-depth teacher's text. The result is the checkpoint's `plans.json`.

    python -m model_store.recipes.search_plans --model DIR --teacher DIR \
        --held-out MANIFEST ... --log plans-search.json
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from model_store.backbones.base import PooledStates
from model_store.checkpoint import load_checkpoint, save_catalogue
from model_store.depth import STRIDES, DepthPlan, DepthSchedule, PlanCatalogue
from model_store.registry import Recogniser
from model_store.training.measure import Recording, hear, held_out_recordings, word_error_rate

LADDER_BUDGETS = (7.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0)
SCREENING_S = 30.0
FINALISTS = 2
SWAPPED = 4


class Screen:
    """The error of a plan's encoder output against the teacher's, on a little speech."""

    def __init__(
        self, model: Recogniser, teacher: Recogniser, recordings: Sequence[Recording]
    ) -> None:
        self._model = model
        parts = [torch.from_numpy(recording.samples) for recording in recordings]
        self._samples_BS = pad_sequence(parts, batch_first=True)
        self._num_samples_B = torch.tensor([len(part) for part in parts])
        full = DepthPlan.full(model.num_layers)
        reference = self._memory(teacher, full)
        self._reference_BPD = reference.states_BPD
        rows = torch.arange(self._reference_BPD.shape[1])
        self._valid_BP = rows < reference.num_rows_B[:, None]
        self._variance = self._reference_BPD[self._valid_BP].var()
        self.errors: dict[str, float] = {}

    def __call__(self, plan: DepthPlan) -> float:
        """Give the squared error over the variance; each plan is computed once."""
        if str(plan) not in self.errors:
            difference_BPD = self._memory(self._model, plan).states_BPD - self._reference_BPD
            error = difference_BPD[self._valid_BP].square().mean() / self._variance
            self.errors[str(plan)] = float(error)
        return self.errors[str(plan)]

    def _memory(self, model: Recogniser, plan: DepthPlan) -> PooledStates:
        schedule = DepthSchedule.constant(plan)
        with torch.inference_mode():
            encoded = model.module.encode(self._samples_BS, self._num_samples_B, schedule)
            # A plan may be coarse where the student's decoder does not look closer.
            pooled = self._model.module.decoder.pool(encoded)
        return PooledStates(pooled.states_BPD.float(), pooled.num_rows_B)


def main() -> None:
    """Search from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "teacher", "log"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, nargs="+", required=True)
    parser.add_argument("--every", type=int, default=3, help="take every n-th utterance")
    parser.add_argument("--screened", type=Path, help="log of an earlier search: its errors")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = Recogniser("student", load_checkpoint(options.model))
    teacher = Recogniser("teacher", load_checkpoint(options.teacher))
    recordings = [r for m in options.held_out for r in held_out_recordings(m, options.every)]
    recordings = with_references(teacher, recordings)
    screen = Screen(model, teacher, a_little(recordings))
    if options.screened:
        screen.errors |= json.loads(options.screened.read_text(encoding="utf-8"))["screened"]
    rates: dict[str, float] = {}

    def rate(plan: DepthPlan) -> float:
        if str(plan) not in rates:
            rates[str(plan)] = word_error_rate(hear(model, recordings, plan))
            print(
                f"{plan}  {plan.effective_layers:g} layers  WER {rates[str(plan)]:.2%}", flush=True
            )
        return rates[str(plan)]

    layers = model.num_layers
    ladder = [best(strided(layers, budget, screen), screen, rate) for budget in LADDER_BUDGETS]
    skip = [best(skipping(layers, kept), screen, rate) for kept in range(layers - 1, 0, -1)]
    full = DepthPlan.full(layers)
    rate(full)
    catalogue = PlanCatalogue(layers, (full, *ladder), (full, *skip))
    log = {"wer": rates, "screened": screen.errors, "utterances": len(recordings)}
    options.log.write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    save_catalogue(catalogue, options.model)


def best(
    candidates: Sequence[DepthPlan],
    screen: Callable[[DepthPlan], float],
    rate: Callable[[DepthPlan], float],
) -> DepthPlan:
    """Screen the candidates and give the finalist with the lowest word error rate."""
    finalists = sorted(candidates, key=screen)[:FINALISTS]
    return min(finalists, key=rate)


def strided(
    num_layers: int, budget: float, screen: Callable[[DepthPlan], float]
) -> list[DepthPlan]:
    """Give plans of strides that spend a budget exactly: rising with depth, and near the best."""
    rising = [
        DepthPlan(strides)
        for strides in itertools.combinations_with_replacement(STRIDES, num_layers)
        if DepthPlan(strides).effective_layers == budget
    ]
    seeds = sorted(rising, key=screen)[:2]
    near = {plan for seed in seeds for plan in _swapped(seed)}
    return [*rising, *sorted(near - set(rising), key=screen)[:SWAPPED]]


def skipping(num_layers: int, kept: int) -> list[DepthPlan]:
    """Give every plan that keeps so many layers."""
    subsets = itertools.combinations(range(num_layers), kept)
    return [DepthPlan.keeping(subset, num_layers) for subset in subsets]


def _swapped(plan: DepthPlan) -> Iterator[DepthPlan]:
    """Give the plans in which two neighbouring layers have changed places."""
    for index in range(plan.num_layers - 1):
        strides = list(plan.strides)
        strides[index], strides[index + 1] = strides[index + 1], strides[index]
        yield DepthPlan(tuple(strides))


def with_references(teacher: Recogniser, recordings: Sequence[Recording]) -> list[Recording]:
    """Let the full-depth teacher write what nobody has transcribed."""
    unknown = [recording for recording in recordings if not recording.reference]
    heard = hear(teacher, unknown, DepthPlan.full(teacher.num_layers))
    texts = {item.id: item.text for item in heard}
    return [
        dataclasses.replace(r, reference=r.reference or texts[r.utterance.id]) for r in recordings
    ]


def a_little(recordings: Sequence[Recording]) -> list[Recording]:
    """Take short recordings of every corpus until there is enough to screen on."""
    stride = max(1, len(recordings) // 12)
    spread = sorted(recordings[::stride], key=lambda item: len(item.samples))
    chosen: list[Recording] = []
    for recording in spread:
        if sum(len(item.samples) for item in chosen) < SCREENING_S * 16_000:
            chosen.append(recording)
    return chosen


if __name__ == "__main__":
    main()
