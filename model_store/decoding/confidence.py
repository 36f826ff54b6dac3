"""Confidence that says how often such words are right, whatever the depth they were heard at.

A word's raw confidence is the geometric mean of its tokens' probabilities. A model is surer of
itself than it is right, and more so the fewer layers it runs, so a map that was fitted on held-out
speech lies beside the weights: `confidence` in `decoding.json`.
"""

import itertools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_store.errors import CheckpointError

KEY = "confidence"
"""Where `decoding.json` has it."""


@dataclass(frozen=True, slots=True)
class ConfidenceMap:
    """A rising line through a few knots.

    Args:
        raw: from 0 to 1, rising.
        calibrated: what each stands for, in [0, 1], never falling.
    """

    raw: tuple[float, ...]
    calibrated: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.raw) != len(self.calibrated) or len(self.raw) < 2:  # noqa: PLR2004 a line
            raise ValueError(
                f"expected two knots or more, a value for each, got {len(self.raw)} and "
                f"{len(self.calibrated)}"
            )
        if self.raw[0] != 0 or self.raw[-1] != 1 or not _rises(self.raw, strictly=True):
            raise ValueError(f"expected knots that rise from 0 to 1, got {self.raw}")
        inside = self.calibrated[0] >= 0 and self.calibrated[-1] <= 1
        if not inside or not _rises(self.calibrated, strictly=False):
            raise ValueError(f"expected values in [0, 1] that never fall, got {self.calibrated}")

    def __call__(self, raw: float) -> float:
        """Give what a raw confidence in [0, 1] stands for."""
        above = min(bisect_right(self.raw, raw), len(self.raw) - 1)
        low, high = self.raw[above - 1], self.raw[above]
        share = min(1.0, max(0.0, (raw - low) / (high - low)))
        return self.calibrated[above - 1] * (1 - share) + self.calibrated[above] * share

    def as_json(self) -> dict[str, list[float]]:
        """Give what `decoding.json` holds."""
        return {"raw": list(self.raw), "calibrated": list(self.calibrated)}


def confidence_map(decoding: Mapping[str, Any]) -> ConfidenceMap | None:
    """Read the map that `decoding.json` holds, where it does.

    Raises:
        CheckpointError: it is no map.
    """
    stored = decoding.get(KEY)
    if stored is None:
        return None
    try:
        raw, calibrated = (tuple(map(float, stored[name])) for name in ("raw", "calibrated"))
        return ConfidenceMap(raw, calibrated)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"expected raw and calibrated values under {KEY!r} in 'decoding.json', got {error}"
        ) from error


def _rises(values: Sequence[float], *, strictly: bool) -> bool:
    return all(a < b if strictly else a <= b for a, b in itertools.pairwise(values))
