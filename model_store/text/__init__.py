"""Text: tokens and words, what of a caption is settled, normalisation, word error rate."""

from model_store.text.agreement import CommitRule, Committer, Update, expected_rows, stable_words
from model_store.text.normalise import normalise
from model_store.text.tokens import Tokenizer, WordPiece
from model_store.text.wer import (
    Interval,
    WordErrors,
    bootstrap_interval,
    corpus_wer,
    matched_words,
    normalised_word_errors,
    paired_difference_interval,
    paired_ratio_interval,
    total,
    word_errors,
)

__all__ = [
    "CommitRule",
    "Committer",
    "Interval",
    "Tokenizer",
    "Update",
    "WordErrors",
    "WordPiece",
    "bootstrap_interval",
    "corpus_wer",
    "expected_rows",
    "matched_words",
    "normalise",
    "normalised_word_errors",
    "paired_difference_interval",
    "paired_ratio_interval",
    "stable_words",
    "total",
    "word_errors",
]
