"""Confidence that says how often such words are right, whatever the depth they were heard at.

A word's raw confidence is the geometric mean of its tokens' probabilities. How often a word that
is so sure is right depends on the company it is in: among unsure words, less often. Three numbers
fitted on held-out speech lie beside the weights, `confidence` in `decoding.json`; they know nothing
of depth.

Dimensions: N = words.

Source: Platt, "Probabilistic outputs for support vector machines", 1999, with a second input.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_store.errors import CheckpointError

Values = npt.NDArray[np.float64]

KEY = "confidence"
"""Where `decoding.json` has it."""

LEAST = 1e-4
"""Log odds are taken of no confidence nearer to 0 or 1."""

MOST_ODDS = 700.0
"""Log odds beyond which the exponential of a double overflows."""


@dataclass(frozen=True, slots=True)
class ConfidenceMap:
    """From raw confidences of an utterance's words to the chance that each is right.

    Its log odds are `offset + word * (log odds of the word's raw confidence) + utterance * (log odds
    of the mean raw confidence of all words)`.

    Args:
        word: at least 0, so that a surer word never becomes a less sure one.
        utterance: at least 0, for the same reason.
        offset: any.
    """

    word: float
    utterance: float
    offset: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.word, self.utterance, self.offset))):
            raise ValueError(f"expected finite numbers, got {self.as_json()}")
        if self.word < 0 or self.utterance < 0:
            raise ValueError(
                f"expected word and utterance of 0 or more, got {self.word} and {self.utterance}"
            )

    def __call__(self, raw: Sequence[float]) -> list[float]:
        """Calibrate the words of one utterance, or of what there is of it so far."""
        if not raw:
            return []
        raw_N = np.asarray(raw, np.float64)
        return self.chances(raw_N, np.full(len(raw), raw_N.mean())).tolist()

    def chances(self, raw_N: Values, company_N: Values) -> Values:
        """Calibrate words, given the mean raw confidence of the words of each one's utterance."""
        odds_N = self.word * log_odds(raw_N) + self.utterance * log_odds(company_N) + self.offset
        return chance(odds_N)

    def as_json(self) -> dict[str, float]:
        """Give what `decoding.json` holds."""
        return {"word": self.word, "utterance": self.utterance, "offset": self.offset}


def confidence_map(decoding: Mapping[str, Any]) -> ConfidenceMap | None:
    """Read the map that `decoding.json` holds, where it does.

    Raises:
        CheckpointError: it is no map.
    """
    stored = decoding.get(KEY)
    if stored is None:
        return None
    try:
        return ConfidenceMap(*(float(stored[name]) for name in ConfidenceMap.__slots__))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"expected numbers {ConfidenceMap.__slots__} under {KEY!r} in 'decoding.json', "
            f"got {error}"
        ) from error


def log_odds(share_N: Values) -> Values:
    """Give the logarithms of shares over the rest, shares kept off 0 and 1."""
    inside_N = share_N.clip(LEAST, 1 - LEAST)
    return np.log(inside_N / (1 - inside_N))


def chance(odds_N: Values) -> Values:
    """Give the shares whose log odds these are."""
    return 1 / (1 + np.exp(-odds_N.clip(-MOST_ODDS, MOST_ODDS)))
