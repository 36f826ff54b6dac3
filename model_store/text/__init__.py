"""Text: tokens and words, normalisation, word error rate."""

from model_store.text.normalise import normalise
from model_store.text.tokens import Tokenizer, WordPiece
from model_store.text.wer import (
    Interval,
    WordErrors,
    bootstrap_interval,
    corpus_wer,
    normalised_word_errors,
    paired_difference_interval,
    paired_ratio_interval,
    total,
    word_errors,
)

__all__ = [
    "Interval",
    "Tokenizer",
    "WordErrors",
    "WordPiece",
    "bootstrap_interval",
    "corpus_wer",
    "normalise",
    "normalised_word_errors",
    "paired_difference_interval",
    "paired_ratio_interval",
    "total",
    "word_errors",
]
