"""The depths that a controller may choose from."""

from collections.abc import Sequence
from dataclasses import dataclass

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class DepthLevel:
    """A depth that the controller may choose.

    Args:
        layers: effective layers.
        drop: share of the depth given up, what `Engine.choose` takes.
        wer_ratio: measured word error rate over that at full depth.
        cost: engine time of a stream's chunk over that at full depth, where it was measured.
    """

    layers: float
    drop: float
    wer_ratio: float
    cost: float = 1.0

    @property
    def dimmer(self) -> float:
        """Effective layers over all layers."""
        return 1 - self.drop


def usable_levels(
    levels: Sequence[DepthLevel], *, max_wer_increase: float, min_layers: float = 0.0
) -> tuple[DepthLevel, ...]:
    """Give the levels a controller may use, deepest first; the last is the floor.

    Full depth is always the first: it is what nobody's load costs. Of the others, those that
    exceed the word error rate an operator accepts are left out, and those that a shallower one
    equals or beats: nobody should pay depth for worse words.

    Args:
        levels: whose word error rate was measured, full depth among them.
        max_wer_increase: accepted, relative: 0.25 is a quarter more errors than at full depth.
        min_layers: effective layers that are never gone below.
    """
    deepest, *others = sorted(levels, key=lambda level: -level.layers)
    accepted = [
        level
        for level in others
        if level.wer_ratio <= 1 + max_wer_increase + _TOLERANCE
        and level.layers >= min_layers - _TOLERANCE
    ]
    kept = [
        level
        for index, level in enumerate(accepted)
        if all(level.wer_ratio < shallower.wer_ratio for shallower in accepted[index + 1 :])
    ]
    return (deepest, *kept)
