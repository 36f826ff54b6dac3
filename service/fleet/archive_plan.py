"""How a budget of operations is spent on an archive: shallow everywhere, then deeper where it pays.

    first pass, least depth    a .95   b .62   c .81   d .40          what is left of the budget
    least confident first      d -> full, b -> full, c -> 5 of 8      until nothing more fits

Pure arithmetic over what the first pass gave. The same files and budget give the same plan.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

MARGIN = 1.1
"""A deeper pass costs up to that many times its prediction: it may write more words."""


@dataclass(frozen=True, slots=True)
class FirstPass:
    """What the first pass found out about a file.

    Args:
        path: which file.
        confidence: mean of its words; None where it has none.
        flops: what the pass cost.
        full_flops: what it would have cost at full depth.
        layers: effective layers that it ran.
        layers_total: of the model.
    """

    path: str
    confidence: float | None
    flops: int
    full_flops: int
    layers: float
    layers_total: int

    @property
    def drop(self) -> float:
        """The share of the depth that it gave up."""
        return 1 - self.layers / self.layers_total

    def predicted_flops(self, drop: float) -> int:
        """Say what a pass at a drop may cost, the margin included.

        Layers cost the same each, and attention at a stride less than its share; so the line
        between this pass and full depth lies above what a plan between them costs.
        """
        spared = self.layers_total - self.layers
        share = ((1 - drop) * self.layers_total - self.layers) / spared if spared else 1.0
        return round(MARGIN * (self.flops + share * (self.full_flops - self.flops)))


def plan_deeper(
    files: Iterable[FirstPass], left_flops: int, least_drop: float
) -> Mapping[str, float]:
    """Choose which files are transcribed once more, and at what drop.

    The least confident file has the first choice, and takes the most depth that fits into what is
    left; then the next. Files without speech cost nothing and get nothing; of files with speech, one
    without words is the least confident.

    Args:
        files: of the first pass.
        left_flops: what may still be spent.
        least_drop: of the deepest plan that is wanted.

    Returns:
        Drops by path, in the order in which they were chosen.
    """
    chosen: dict[str, float] = {}
    spoken = (file for file in files if file.flops > 0)
    for file in sorted(spoken, key=lambda file: (file.confidence or 0.0, file.path)):
        for drop in _deeper(file, least_drop):
            cost_flops = file.predicted_flops(drop)
            if cost_flops <= left_flops:
                chosen[file.path] = drop
                left_flops -= cost_flops
                break
    return chosen


def _deeper(file: FirstPass, least_drop: float) -> Iterator[float]:
    """Give the drops below a file's own, from the least: the one wanted, then layer by layer."""
    if least_drop < file.drop:
        yield least_drop
    for layers in range(file.layers_total, 0, -1):
        drop = 1 - layers / file.layers_total
        if least_drop < drop < file.drop:
            yield drop
