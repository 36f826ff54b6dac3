"""Word error rate: counts, rates over a corpus, and intervals by bootstrap over utterances."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from model_store.text.normalise import normalise

Counts: TypeAlias = npt.NDArray[np.float64]
_Step: TypeAlias = tuple[int | None, int | None]
"""Places in reference and hypothesis; None where one of them has no word."""


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Errors of one hypothesis against its reference."""

    substitutions: int
    deletions: int
    insertions: int
    reference_words: int

    @property
    def errors(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors over reference words; an empty reference counts as one word."""
        return self.errors / max(1, self.reference_words)

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_words + other.reference_words,
        )


class Interval(NamedTuple):
    """Where a figure lies with the confidence asked for."""

    low: float
    high: float


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Count the errors of the cheapest alignment of two texts as they are, split at spaces."""
    return _align(*_ids(reference.split(), hypothesis.split()))


def matched_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Say of each word of a hypothesis whether the cheapest alignment finds it in the reference."""
    expected, got = _ids(reference, hypothesis)
    matched = _matches(expected, got, _steps(expected, got))
    return [index in matched for index in range(len(got))]


def normalised_word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Count the errors after both texts went through `normalise`."""
    return word_errors(normalise(reference), normalise(hypothesis))


def total(errors: Iterable[WordErrors]) -> WordErrors:
    """Add up the errors of many utterances."""
    return sum(errors, start=WordErrors(0, 0, 0, 0))


def corpus_wer(pairs: Iterable[tuple[str, str]], *, raw: bool = False) -> float:
    """Return all errors over all reference words.

    Args:
        pairs: (reference, hypothesis) of each utterance.
        raw: Compare the texts as they are, with case and punctuation.
    """
    count = word_errors if raw else normalised_word_errors
    return total(count(reference, hypothesis) for reference, hypothesis in pairs).rate


def bootstrap_interval(
    errors: Sequence[WordErrors], confidence: float = 0.95, repeats: int = 1000, seed: int = 0
) -> Interval:
    """Return the interval of the corpus rate when utterances are drawn anew, with replacement.

    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation", ICASSP 2004.
    """

    def rate(draws: Counts) -> Counts:
        return _rates(draws, errors)

    return _interval(rate, len(errors), confidence, repeats, seed)


def paired_ratio_interval(
    errors: Sequence[WordErrors],
    baseline: Sequence[WordErrors],
    confidence: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the interval of this system's rate over the baseline's, on the same utterances.

    A draw in which the baseline makes no error counts as infinity, or as 1 if neither makes one.
    """
    _expect_pairs(errors, baseline)

    def ratio(draws: Counts) -> Counts:
        ours, theirs = _rates(draws, errors), _rates(draws, baseline)
        neither = (ours == 0) & (theirs == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(neither, 1.0, ours / theirs)

    return _interval(ratio, len(errors), confidence, repeats, seed)


def paired_difference_interval(
    errors: Sequence[WordErrors],
    baseline: Sequence[WordErrors],
    confidence: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the interval of this system's rate minus the baseline's, on the same utterances."""
    _expect_pairs(errors, baseline)

    def difference(draws: Counts) -> Counts:
        return _rates(draws, errors) - _rates(draws, baseline)

    return _interval(difference, len(errors), confidence, repeats, seed)


def _ids(expected: Sequence[str], got: Sequence[str]) -> tuple[list[int], list[int]]:
    ids = {word: index for index, word in enumerate({*expected, *got})}
    return [ids[word] for word in expected], [ids[word] for word in got]


def _align(expected: Sequence[int], got: Sequence[int]) -> WordErrors:
    steps = list(_steps(expected, got))
    substitutions = sum(1 for i, j in steps if i is not None and j is not None)
    substitutions -= len(_matches(expected, got, steps))
    deletions = sum(1 for _, j in steps if j is None)
    insertions = sum(1 for i, _ in steps if i is None)
    return WordErrors(substitutions, deletions, insertions, len(expected))


def _matches(expected: Sequence[int], got: Sequence[int], steps: Iterable[_Step]) -> set[int]:
    return {j for i, j in steps if i is not None and j is not None and expected[i] == got[j]}


def _steps(expected: Sequence[int], got: Sequence[int]) -> Iterator[_Step]:
    """Fill the table of edit distances a row at a time, then walk back through it."""
    got_ids, columns = np.asarray(got, np.int64), np.arange(len(got) + 1)
    table = np.empty((len(expected) + 1, len(got) + 1), np.int32)
    table[0] = columns
    for i, word in enumerate(expected, 1):
        row = table[i - 1] + 1  # a deletion
        row[1:] = np.minimum(row[1:], table[i - 1, :-1] + (got_ids != word))
        table[i] = np.minimum.accumulate(row - columns) + columns  # insertions, from the left
    i, j = len(expected), len(got)
    while i or j:
        here = table[i, j]
        wrong = bool(i and j and expected[i - 1] != got[j - 1])
        if i and j and here == table[i - 1, j - 1] + wrong:
            i, j = i - 1, j - 1
            yield i, j
        elif i and here == table[i - 1, j] + 1:
            i -= 1
            yield i, None
        else:
            j -= 1
            yield None, j


def _rates(draws: Counts, errors: Sequence[WordErrors]) -> Counts:
    """Return the corpus rate of each draw.

    Shapes: draws (repeats, utterances), how often each utterance was drawn -> (repeats,)
    """
    wrong = np.array([one.errors for one in errors], np.float64)
    words = np.array([one.reference_words for one in errors], np.float64)
    return (draws @ wrong) / np.maximum(draws @ words, 1.0)


def _interval(
    statistic: Callable[[Counts], Counts], num: int, confidence: float, repeats: int, seed: int
) -> Interval:
    assert num, "expected at least one utterance to draw from"
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(num, np.full(num, 1 / num), size=repeats).astype(np.float64)
    tail = (1 - confidence) / 2
    # A percentile between two values is one of them: infinity cannot be interpolated.
    low, high = np.quantile(statistic(draws), [tail, 1 - tail], method="nearest")
    return Interval(float(low), float(high))


def _expect_pairs(errors: Sequence[WordErrors], baseline: Sequence[WordErrors]) -> None:
    assert len(errors) == len(baseline), (
        f"expected the same utterances of both systems, got {len(errors)} and {len(baseline)}"
    )
    for ours, theirs in zip(errors, baseline, strict=True):
        assert ours.reference_words == theirs.reference_words, "expected the same references"
