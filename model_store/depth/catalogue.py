"""The plans a model offers, and the policies that turn a wish for depth into one of them."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model_store.depth.plan import STRIDES, TOLERANCE, DepthPlan
from model_store.depth.selector import UNITS, Floats, Selector
from model_store.errors import DepthRefused, DropOutOfRange, PlanInvalid, PolicyUnknown

POLICIES = ("ladder", "uniform", "skip", "first-k", "every-other", "random-k")
"""Names of the policies that every model has, the default first."""

INPUT = "input"
"""The policy that a selector shipped with the weights brings: what is heard picks the plan."""


@dataclass(frozen=True, slots=True)
class PlanCatalogue:
    """What a model offers at which budget.

    Args:
        num_layers: encoder layers of the model.
        ladder: stride-only plans chosen by measurement, any order, the full plan among them.
        skip: plans that only skip, chosen by measurement, any order.
        selector: picks the plans of the policy `input`; None where the weights ship without one.
        word_error_rates: of the plans of the ladder that were measured, on the set its card names.

    Raises:
        PlanInvalid: a plan is of another number of layers, a ladder plan skips, or the full plan
            is missing.
    """

    num_layers: int
    ladder: tuple[DepthPlan, ...]
    skip: tuple[DepthPlan, ...]
    word_error_rates: tuple[tuple[DepthPlan, float], ...] = ()
    selector: Selector | None = None

    def __post_init__(self) -> None:
        for plan in (*self.ladder, *self.skip):
            if plan.num_layers != self.num_layers:
                raise PlanInvalid(f"expected {self.num_layers} strides, got {str(plan)!r}")
        if any(plan.skips for plan in self.ladder):
            raise PlanInvalid("expected a ladder of strides alone, got a plan that skips")
        if DepthPlan.full(self.num_layers) not in self.ladder:
            raise PlanInvalid("expected the full plan on the ladder, got a ladder without it")

    @classmethod
    def untuned(cls, num_layers: int) -> "PlanCatalogue":
        """What a model offers before anything was measured: uniform strides, and its first layers."""
        return cls(
            num_layers,
            tuple(DepthPlan((stride,) * num_layers) for stride in STRIDES),
            tuple(DepthPlan.keeping(range(kept), num_layers) for kept in range(num_layers, 0, -1)),
        )

    @classmethod
    def parse(cls, num_layers: int, plans: Mapping[str, Sequence[str]]) -> "PlanCatalogue":
        """Read what `plans.json` says: plans as text under `ladder` and `skip`.

        Raises:
            KeyError: one of the two is missing.
            PlanInvalid: a plan is none of such a model.
        """
        ladder, skip = (tuple(map(DepthPlan.parse, plans[name])) for name in ("ladder", "skip"))
        return cls(num_layers, ladder, skip)

    def with_card(self, card: Mapping[str, Any]) -> "PlanCatalogue":
        """Take over the word error rates that a `card.json` holds.

        Raises:
            KeyError, TypeError, ValueError: it is none.
            PlanInvalid: a plan in it is none.
        """
        rates = tuple(
            (DepthPlan.parse(budget["plan"]), float(budget["wer"])) for budget in card["budgets"]
        )
        return replace(self, word_error_rates=rates)

    @property
    def wer_ratios(self) -> tuple[float | None, ...]:
        """Word error rate over that at full depth for each plan offered; None: not measured.

        Without a rate at full depth, or with one of 0, nothing can be said of the others.
        """
        rates = dict(self.word_error_rates)
        full = rates.get(DepthPlan.full(self.num_layers))
        if not full:
            return (None,) * len(self.ladder)
        return tuple(rates[plan] / full if plan in rates else None for plan in self.offered)

    @property
    def offered(self) -> tuple[DepthPlan, ...]:
        """The ladder, deepest plan first."""
        return _deepest_first(self.ladder)

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the policies that `choose` takes."""
        return POLICIES if self.selector is None else (*POLICIES, INPUT)

    def heard(self, samples_S: Floats, nominal: DepthPlan) -> DepthPlan:
        """Give the plan of an utterance under the policy `input`.

        Args:
            samples_S: what the selector hears: the whole utterance, or its first chunk.
            nominal: what `choose` gave for the budget.

        Raises:
            PolicyUnknown: no selector is shipped.
        """
        return self._selector().choose(samples_S, nominal.effective_layers)

    def choose(
        self,
        drop: float,
        max_drop: float | None = None,
        policy: str = "ladder",
        seed: int = 0,
    ) -> DepthPlan:
        """Give the deepest plan of a policy within a budget.

        The plan has the most effective layers that do not exceed (1 - drop) * layers; where even
        the smallest exceeds it, the smallest.

        Args:
            drop: share of the depth to give up, in [0, 1).
            max_drop: the largest share to give up, in [0, 1); None for no limit.
            policy: one of `policies`. For `input` the plan has the effective layers that every
                utterance will have; which layers, `heard` says for each.
            seed: draws the layers of `random-k`; equal seeds give equal plans.

        Raises:
            DropOutOfRange: drop or max_drop is outside [0, 1).
            PolicyUnknown: no such policy.
            DepthRefused: drop is above max_drop, or the plan found gives up more than max_drop.
        """
        check_drop("drop", drop)
        if max_drop is not None:
            check_drop("max_drop", max_drop)
            if drop > max_drop + TOLERANCE:
                raise DepthRefused(f"expected drop at most max_drop {max_drop:g}, got {drop:g}")
        plans = self.plans(policy, seed)
        budget = (1 - drop) * self.num_layers + TOLERANCE
        chosen = next((plan for plan in plans if plan.effective_layers <= budget), plans[-1])
        if max_drop is not None and chosen.drop > max_drop + TOLERANCE:
            raise DepthRefused(
                f"expected a plan that drops at most {max_drop:g}, "
                f"the nearest that policy {policy!r} offers drops {chosen.drop:g}"
            )
        return chosen

    def deepest(self, max_drop: float | None = None, policy: str = "ladder") -> DepthPlan:
        """Give the plan of a policy that drops least, as `choose` does for drop 0."""
        return self.choose(0.0, max_drop, policy)

    def plans(self, policy: str, seed: int = 0) -> tuple[DepthPlan, ...]:
        """Every plan of a policy, deepest first; the full plan is always one of them.

        Raises:
            PolicyUnknown: no such policy.
        """
        if policy == "ladder":
            return self.offered
        if policy == "uniform":
            return tuple(DepthPlan((stride,) * self.num_layers) for stride in STRIDES)
        if policy == "skip":
            full = DepthPlan.full(self.num_layers)
            return _deepest_first(tuple(dict.fromkeys((full, *self.skip))))
        if policy == INPUT:
            return self._nominal(self._selector())
        if policy not in KEEPING:
            known = ", ".join(self.policies)
            raise PolicyUnknown(f"expected a policy out of {known}, got {policy!r}")
        return tuple(
            DepthPlan.keeping(KEEPING[policy](self.num_layers, kept, seed), self.num_layers)
            for kept in range(self.num_layers, 0, -1)
        )

    def _selector(self) -> Selector:
        if self.selector is None:
            raise PolicyUnknown(
                f"expected a policy out of {', '.join(POLICIES)}, got {INPUT!r}, "
                "for which these weights have no selector"
            )
        return self.selector

    def _nominal(self, selector: Selector) -> tuple[DepthPlan, ...]:
        """One plan for every budget that its plans reach; the full plan is always one of them."""
        budgets = (units / UNITS for units in range(UNITS * self.num_layers, 0, -1))
        plans = dict.fromkeys(selector.nominal(budget) for budget in budgets)
        return _deepest_first(tuple(plans))


def check_drop(name: str, value: float) -> None:
    """Raise DropOutOfRange unless value is a number in [0, 1)."""
    if not (math.isfinite(value) and 0 <= value < 1):
        raise DropOutOfRange(f"expected {name} in [0, 1), got {value!r}")


def _deepest_first(plans: tuple[DepthPlan, ...]) -> tuple[DepthPlan, ...]:
    return tuple(sorted(plans, key=lambda plan: -plan.effective_layers))


def _first_k(num_layers: int, kept: int, seed: int) -> Sequence[int]:
    return range(kept)


def _every_other(num_layers: int, kept: int, seed: int) -> Sequence[int]:
    """Spread the kept layers evenly, the first one always among them."""
    return [index * num_layers // kept for index in range(kept)]


def _random_k(num_layers: int, kept: int, seed: int) -> Sequence[int]:
    return random.Random(seed * num_layers + kept).sample(range(num_layers), kept)


KEEPING: Mapping[str, Callable[[int, int, int], Sequence[int]]] = {
    "first-k": _first_k,
    "every-other": _every_other,
    "random-k": _random_k,
}
"""Policies that keep some layers at every frame: layers, kept ones, seed -> indices."""
