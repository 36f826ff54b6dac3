"""Fitting what a word's raw confidence stands for, and how well it does.

Dimensions: N = words, C = inputs of the fit.

Sources: Platt, "Probabilistic outputs for support vector machines", 1999; Guo et al., arXiv
1706.04599 (expected calibration error).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_store.decoding.confidence import LEAST, ConfidenceMap, Values, chance, log_odds
from model_store.text.normalise import normalise
from model_store.text.wer import matched_words

Flags = npt.NDArray[np.bool_]

IDENTITY = ConfidenceMap(word=1.0, utterance=0.0, offset=0.0)
BINS = 10
NEWTON_STEPS = 50
CONVERGED = 1e-8


@dataclass(frozen=True, slots=True)
class LabelledWords:
    """Words that were heard: how sure the model was of each and of those around, which were right.

    Args:
        raw_N: raw confidence.
        company_N: mean raw confidence of the utterance's words.
        right_N: found in the reference.
    """

    raw_N: Values
    company_N: Values
    right_N: Flags

    def __len__(self) -> int:
        return len(self.raw_N)


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
    company: list[float] = []
    right: list[bool] = []
    for item in utterances.values():
        spoken = [normalise(text).split() for text, _ in item["words"]]
        together = [word for words in spoken for word in words]
        if together != normalise(item["text"]).split():
            continue
        found = iter(matched_words(normalise(item["reference"]).split(), together))
        sure = [confidence for _, confidence in item["words"]]
        for words, confidence in zip(spoken, sure, strict=True):
            if words:
                right.append(min([next(found) for _ in words]))  # every one is taken
                raw.append(confidence)
                company.append(sum(sure) / len(sure))
    return LabelledWords(np.array(raw), np.array(company), np.array(right, np.bool_))


def joined(parts: Sequence[LabelledWords]) -> LabelledWords:
    """Put words of several cases together."""
    return LabelledWords(
        np.concatenate([part.raw_N for part in parts]),
        np.concatenate([part.company_N for part in parts]),
        np.concatenate([part.right_N for part in parts]),
    )


def fit_word(words: LabelledWords) -> ConfidenceMap:
    """Fit slope and offset of the word's own log odds."""
    weight, offset = _fitted([log_odds(words.raw_N), np.ones(len(words))], words.right_N)
    return ConfidenceMap(_kept(weight), 0.0, round(offset, 4))


def fit_word_and_utterance(words: LabelledWords) -> ConfidenceMap:
    """Fit the weights of the word's and of its utterance's log odds, and the offset."""
    inputs = [log_odds(words.raw_N), log_odds(words.company_N), np.ones(len(words))]
    weight, utterance, offset = _fitted(inputs, words.right_N)
    if min(weight, utterance) < 0:  # a few words may say anything
        return fit_word(words)
    return ConfidenceMap(_kept(weight), _kept(utterance), round(offset, 4))


Fit = Callable[[LabelledWords], ConfidenceMap]
FITS: Mapping[str, Fit] = {
    "raw": lambda _: IDENTITY,
    "word": fit_word,
    "word and utterance": fit_word_and_utterance,
}


def left_out_likelihood(groups: Sequence[LabelledWords], fit: Fit) -> float:
    """Give the mean negative log likelihood of each group's words by a map fitted on the others."""
    total = 0.0
    for index, group in enumerate(groups):
        others = joined([other for place, other in enumerate(groups) if place != index])
        said_N = mapped(fit(others), group)
        total += len(group) * _negative_log_likelihood(said_N, group.right_N)
    return total / sum(map(len, groups))


def mapped(confidence: ConfidenceMap, words: LabelledWords) -> Values:
    """Give calibrated confidence, word by word."""
    return confidence.chances(words.raw_N, words.company_N)


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


def _fitted(inputs: Sequence[Values], right_N: Flags) -> list[float]:
    """Fit weights by maximum likelihood, the first pulled towards 1 and the others towards 0.

    The pull is worth one word: it keeps a handful of words harmless.
    """
    x_NC = np.stack(inputs, axis=1)
    towards_C = np.eye(1, x_NC.shape[1])[0]
    sign_N = np.where(right_N, -1.0, 1.0)

    def likelihood(weight_C: Values) -> float:
        wrong = np.logaddexp(0.0, sign_N * (x_NC @ weight_C)).sum()
        return -float(wrong + np.square(weight_C - towards_C).sum() / 2)

    weight_C = towards_C
    for _ in range(NEWTON_STEPS):
        p_N = chance(x_NC @ weight_C)
        curvature_CC = (x_NC.T * (p_N * (1 - p_N))) @ x_NC + np.eye(x_NC.shape[1])
        slope_C = x_NC.T @ (right_N - p_N) + towards_C - weight_C
        step_C = np.linalg.solve(curvature_CC, slope_C)
        before = likelihood(weight_C)
        # Where all words are sure and many wrong, a whole step goes far beyond the best place.
        while likelihood(weight_C + step_C) < before and np.abs(step_C).max() >= CONVERGED:
            step_C = step_C / 2
        weight_C = weight_C + step_C
        if float(np.abs(step_C).max()) < CONVERGED:
            break
    return [float(weight) for weight in weight_C]


def _kept(weight: float) -> float:
    return max(0.0, round(weight, 4))


def _negative_log_likelihood(said_N: Values, right_N: Flags) -> float:
    inside_N = said_N.clip(LEAST, 1 - LEAST)
    return float(-np.log(np.where(right_N, inside_N, 1 - inside_N)).mean())
