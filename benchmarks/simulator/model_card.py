"""What the shipped model's card says of its depths: plans, word errors, operations."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_store.depth import DepthPlan
from service.engine.base import PlanInUse


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Depths with a measured word error rate, deepest first.

    Args:
        plans: on offer.
        wer: by effective layers.
        flops_per_s, encoder_flops_per_s: of a second of audio, by effective layers.
    """

    plans: tuple[PlanInUse, ...]
    wer: Mapping[float, float]
    flops_per_s: Mapping[float, float]
    encoder_flops_per_s: Mapping[float, float]

    @property
    def full(self) -> PlanInUse:
        """The plan of all layers."""
        return self.plans[0]

    def wer_ratio(self, layers: float) -> float:
        """Word error rate over that at full depth."""
        return self.wer[layers] / self.wer[self.full.effective_layers]


def read_card(folder: Path) -> ModelCard:
    """Read `card.json` of a model's folder."""
    content = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    budgets: list[dict[str, Any]] = sorted(
        content["budgets"], key=lambda budget: -budget["effective_layers"]
    )
    plans = [DepthPlan.parse(budget["plan"]) for budget in budgets]

    def by_layers(name: str) -> dict[float, float]:
        return {budget["effective_layers"]: budget[name] for budget in budgets}

    return ModelCard(
        tuple(
            PlanInUse(plan.strides, plan.effective_layers, plan.num_layers, plan.drop)
            for plan in plans
        ),
        by_layers("wer"),
        by_layers("flops_per_s"),
        by_layers("encoder_flops_per_s"),
    )
