"""Fitting what a word's raw confidence stands for, and how well it does.

Dimensions: N = words, K = knots.

Sources: Platt, "Probabilistic outputs for support vector machines", 1999; Zadrozny and Elkan,
"Transforming classifier scores into accurate multiclass probability estimates", KDD 2002
(isotonic regression); Guo et al., arXiv 1706.04599 (expected calibration error).
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_store.decoding.confidence import ConfidenceMap
from model_store.text.normalise import normalise
from model_store.text.wer import matched_words

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

IDENTITY = ConfidenceMap((0.0, 1.0), (0.0, 1.0))
LEAST = 1e-4
"""No confidence is fitted nearer to 0 or 1."""
PLATT_KNOTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995, 1.0)
ISOTONIC_KNOTS = 12
BINS = 10
NEWTON_STEPS = 50


@dataclass(frozen=True, slots=True)
class LabelledWords:
    """Words that were heard: how sure the model was of each, whether it was right, where it stands.

    Args:
        raw_N: raw confidence.
        right_N: found in the reference.
        utterance_N: checksum of the utterance's id, the same at every depth and condition.
    """

    raw_N: Values
    right_N: Flags
    utterance_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.raw_N)

    def taken(self, chosen_N: Flags) -> "LabelledWords":
        """Give some of the words."""
        return LabelledWords(
            self.raw_N[chosen_N], self.right_N[chosen_N], self.utterance_N[chosen_N]
        )


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far confidence is from what it says.

    Args:
        words: how many.
        mean_confidence, accuracy: equal where confidence is calibrated as a whole.
        expected_error: mean distance of a bin's confidence from its accuracy, weighed by words.
        negative_log_likelihood: mean over words, in nats.
        bins: of each that holds words: mean confidence, accuracy, words.
    """

    words: int
    mean_confidence: float
    accuracy: float
    expected_error: float
    negative_log_likelihood: float
    bins: tuple[tuple[float, float, int], ...]


def labelled(utterances: Mapping[str, Mapping[str, Any]]) -> LabelledWords:
    """Label the words of utterances, as a line of `benchmarks.shipped_words` has them, by id.

    A written word is right when every word it normalises to is found (`20%` is two); one that
    normalises to nothing is left out, and so is an utterance whose words normalise to something
    else one by one than together.
    """
    raw: list[float] = []
    right: list[bool] = []
    places: list[int] = []
    for id_, item in utterances.items():
        spoken = [normalise(text).split() for text, _ in item["words"]]
        together = [word for words in spoken for word in words]
        if together != normalise(item["text"]).split():
            continue
        found = iter(matched_words(normalise(item["reference"]).split(), together))
        for words, (_, confidence) in zip(spoken, item["words"], strict=True):
            if words:
                right.append(min([next(found) for _ in words]))  # every one is taken
                raw.append(confidence)
                places.append(zlib.crc32(id_.encode()))
    return LabelledWords(np.array(raw), np.array(right, np.bool_), np.array(places, np.int64))


def joined(parts: Sequence[LabelledWords]) -> LabelledWords:
    """Put words of several cases together."""
    return LabelledWords(
        np.concatenate([part.raw_N for part in parts]),
        np.concatenate([part.right_N for part in parts]),
        np.concatenate([part.utterance_N for part in parts]),
    )


def fit_platt(words: LabelledWords) -> ConfidenceMap:
    """Fit two numbers, slope and offset of the log odds, by maximum likelihood; give it at knots."""
    x_N2 = np.stack([_log_odds(words.raw_N), np.ones(len(words))], axis=1)
    # Platt's targets: as if one word more of each kind had been seen.
    right = int(words.right_N.sum())
    target_N = np.where(words.right_N, (right + 1) / (right + 2), 1 / (len(words) - right + 2))
    weight_2 = np.array([1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        p_N = _chance(x_N2 @ weight_2)
        slope_22 = (x_N2 * (p_N * (1 - p_N))[:, None]).T @ x_N2 + np.eye(2)
        # One more word's worth of pull towards no change keeps a handful of words harmless.
        pull_2 = np.array([1.0, 0.0]) - weight_2
        step_2 = np.linalg.solve(slope_22, x_N2.T @ (target_N - p_N) + pull_2)
        weight_2 += step_2
        if float(np.abs(step_2).max()) < 1e-8:  # noqa: PLR2004 converged
            break
    slope, offset = max(0.0, float(weight_2[0])), float(weight_2[1])
    odds_K = slope * _log_odds(np.array(PLATT_KNOTS)) + offset
    return _map(PLATT_KNOTS, _chance(odds_K))


def fit_isotonic(words: LabelledWords, knots: int = ISOTONIC_KNOTS) -> ConfidenceMap:
    """Fit a rising line through the means of equally filled bins, half a word of each kind added."""
    order_N = np.argsort(words.raw_N, kind="stable")
    parts = [part for part in np.array_split(order_N, knots) if len(part)]
    blocks: list[list[float]] = []  # words, right ones, sum of raw confidence
    for part in parts:
        right = float(words.right_N[part].sum())
        blocks.append([len(part) + 1.0, right + 0.5, float(words.raw_N[part].sum()), len(part)])
        while len(blocks) > 1 and _rate(blocks[-2]) >= _rate(blocks[-1]):
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    raw = [round(block[2] / block[3], 5) for block in blocks]
    calibrated = [_rate(block) for block in blocks]
    knots_at = {0.0: calibrated[0], **dict(zip(raw, calibrated, strict=True)), 1.0: calibrated[-1]}
    return _map(knots_at, np.array(list(knots_at.values())))


Fit = Callable[[LabelledWords], ConfidenceMap]
FITS: Mapping[str, Fit] = {"raw": lambda _: IDENTITY, "platt": fit_platt, "isotonic": fit_isotonic}


def cross_validated(words: LabelledWords, fit: Fit, folds: int = 5) -> float:
    """Give the negative log likelihood of words whose utterances the map was not fitted on."""
    fold_N = words.utterance_N % folds
    total = 0.0
    for fold in range(folds):
        made, left_out = fit(words.taken(fold_N != fold)), words.taken(fold_N == fold)
        total += len(left_out) * _negative_log_likelihood(mapped(made, left_out), left_out.right_N)
    return total / len(words)


def mapped(confidence: ConfidenceMap, words: LabelledWords) -> Values:
    """Give calibrated confidence, word by word."""
    return np.array([confidence(float(raw)) for raw in words.raw_N])


def reliability(words: LabelledWords, confidence: ConfidenceMap = IDENTITY) -> Reliability:
    """Say how well a map's confidence, in `BINS` bins of equal width, tells the share of right words."""
    said_N = mapped(confidence, words)
    bin_N = np.minimum((said_N * BINS).astype(np.int64), BINS - 1)
    bins = tuple(
        (float(said_N[bin_N == k].mean()), float(words.right_N[bin_N == k].mean()), int(count))
        for k, count in enumerate(np.bincount(bin_N, minlength=BINS))
        if count
    )
    return Reliability(
        words=len(words),
        mean_confidence=float(said_N.mean()),
        accuracy=float(words.right_N.mean()),
        expected_error=sum(count * abs(said - right) for said, right, count in bins) / len(words),
        negative_log_likelihood=_negative_log_likelihood(said_N, words.right_N),
        bins=bins,
    )


def _negative_log_likelihood(said_N: Values, right_N: Flags) -> float:
    inside_N = said_N.clip(LEAST, 1 - LEAST)
    return float(-np.log(np.where(right_N, inside_N, 1 - inside_N)).mean())


def _log_odds(raw: Values) -> Values:
    inside = raw.clip(LEAST, 1 - LEAST)
    return np.log(inside / (1 - inside))


def _chance(odds: Values) -> Values:
    return 1 / (1 + np.exp(-odds.clip(-30, 30)))


def _rate(block: Iterable[float]) -> float:
    words, right, *_ = block
    return right / words


def _map(raw: Iterable[float], calibrated_K: Values) -> ConfidenceMap:
    rising_K = np.maximum.accumulate(calibrated_K.round(4))
    return ConfidenceMap(tuple(raw), tuple(map(float, rising_K)))
