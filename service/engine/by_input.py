"""The policy `input` behind the seam: the plan of each utterance is found once something of it is heard.

A `PlanInUse` that says `by_input` is a budget; which layers spend it, the selector that is shipped
with the weights says: for a file's windows each from the whole of it, for a stream's utterances from
the first chunk, and that plan then holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_store.depth import DepthPlan, PlanCatalogue
from model_store.depth.selector import FIRST_CHUNK_SAMPLES
from service.engine.base import Cost, LiveInput, LiveOutput, LiveUtterance, PlanInUse, Samples

Step = Callable[[Sequence[LiveInput]], Sequence[LiveOutput]]
"""The engine's own step over utterances of the model's."""


@dataclass(slots=True, eq=False)
class HeardUtterance:
    """An utterance that may have its plan picked by what is heard.

    Args:
        inner: the model's own state.
        waiting: samples that no step has had, since too few are there to pick a plan by.
        plan: the one that was picked.
    """

    inner: LiveUtterance
    waiting: Samples
    plan: PlanInUse | None = None

    @classmethod
    def of(cls, inner: LiveUtterance) -> "HeardUtterance":
        """Wrap an utterance that nothing was heard of."""
        return cls(inner, np.zeros(0, np.float32))

    @property
    def state_bytes(self) -> int:
        """Bytes that the caches and the waiting samples take up."""
        return self.inner.state_bytes + self.waiting.nbytes


def in_use(plan: DepthPlan, *, by_input: bool = False) -> PlanInUse:
    """Give a plan as the seam reports it; nothing is left to pick of the full one."""
    picked = by_input and plan != DepthPlan.full(plan.num_layers)
    return PlanInUse(
        plan.strides, plan.effective_layers, plan.num_layers, plan.drop, by_input=picked
    )


def picked(
    catalogue: PlanCatalogue, samples: Samples, nominal: PlanInUse
) -> tuple[PlanInUse, Cost]:
    """Give the plan of what is heard, and what picking it cost."""
    plan = catalogue.heard(samples, DepthPlan(nominal.strides))
    assert catalogue.selector is not None, "it has picked a plan"
    flops = catalogue.selector.flops(len(samples))
    return in_use(plan, by_input=True), Cost(flops=flops, encoder_flops=flops)


def step_by_input(
    catalogue: PlanCatalogue, inputs: Sequence[LiveInput], step: Step
) -> list[LiveOutput]:
    """Run a step over wrapped utterances; those too short to pick a plan by wait for more."""
    ready: list[tuple[int, LiveInput, Cost, PlanInUse | None]] = []
    outputs: dict[int, LiveOutput] = {}
    for place, one in enumerate(inputs):
        utterance = one.utterance
        assert isinstance(utterance, HeardUtterance), "expected an utterance of this engine"
        heard = np.concatenate([utterance.waiting, one.samples])
        cost, plan = Cost(), one.plan
        if one.plan.by_input and utterance.plan is None:
            if len(heard) < FIRST_CHUNK_SAMPLES and not one.ends:
                utterance.waiting = heard
                outputs[place] = LiveOutput((), 0, 0.0, Cost())
                continue
            first = heard[:FIRST_CHUNK_SAMPLES]
            utterance.plan, cost = picked(catalogue, first, one.plan)
        if one.plan.by_input:
            assert utterance.plan is not None, "picked above"
            plan = utterance.plan
        utterance.waiting = heard[:0]
        told = plan if one.plan.by_input else None
        inner = replace(one, utterance=utterance.inner, samples=heard, plan=plan)
        ready.append((place, inner, cost, told))
    stepped = step([inner for _, inner, _, _ in ready]) if ready else ()
    for (place, _, cost, told), output in zip(ready, stepped, strict=True):
        outputs[place] = replace(output, cost=output.cost + cost, plan=told)
    return [outputs[place] for place in range(len(inputs))]
