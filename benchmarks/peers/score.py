"""Word error rate of a list of texts, by the rules the model's own card is written with."""

from collections.abc import Iterable
from dataclasses import dataclass

from model_store.text import bootstrap_interval, normalised_word_errors, total


@dataclass(frozen=True, slots=True)
class Score:
    """Errors over reference words, with a 95 % interval by bootstrap over utterances."""

    wer: float
    low: float
    high: float
    words: int
    substitutions: int
    deletions: int
    insertions: int


def score(pairs: Iterable[tuple[str, str]]) -> Score | None:
    """Compare (reference, text) pairs after normalising both.

    Returns:
        None when no reference holds a word: a set without transcripts has no error rate.
    """
    counted = (normalised_word_errors(reference, text) for reference, text in pairs)
    errors = [one for one in counted if one.reference_words]
    if not errors:
        return None
    summed = total(errors)
    low, high = bootstrap_interval(errors)
    return Score(
        summed.rate,
        low,
        high,
        summed.reference_words,
        summed.substitutions,
        summed.deletions,
        summed.insertions,
    )
