"""Loops in a transcript, told apart from words that are spoken twice by where attention looks.

A decoder that loops writes the same tokens again while its cross-attention stays where it is, or
jumps back. A speaker who says 'no no no' or a string of digits moves it forward with every copy.
"""

from collections.abc import Sequence

LONGEST_PERIOD = 24
"""Tokens; loops of whole sentences are that long."""

LEAST_COPIES = 3
"""Two equal copies are never touched."""

LEAST_ADVANCE_S = 0.06
"""Nobody says a word again within less."""


def without_loops(tokens: Sequence[int], position_s: Sequence[float]) -> int:
    """Give how many tokens to keep, from the start.

    Args:
        tokens: of one transcript, without prompt and end token.
        position_s: where in the audio each token's attention lies.
    """
    for start in range(len(tokens)):
        for period in range(1, LONGEST_PERIOD + 1):
            copies = _copies(tokens, start, period)
            if copies < LEAST_COPIES:
                continue
            kept = _advancing_copies(position_s, start, period, copies)
            if kept < copies:
                return start + kept * period
    return len(tokens)


def _copies(tokens: Sequence[int], start: int, period: int) -> int:
    pattern = tokens[start : start + period]
    copies = 0
    while tokens[start + copies * period : start + (copies + 1) * period] == pattern:
        copies += 1
    return copies if len(pattern) == period else 0


def _advancing_copies(position_s: Sequence[float], start: int, period: int, copies: int) -> int:
    """Count the copies until attention moves on no more, on average over any that follow."""
    centres = [
        sum(position_s[start + copy * period : start + (copy + 1) * period]) / period
        for copy in range(copies)
    ]
    for copy in range(1, copies):
        # One copy may seem to stand still while attention finds its place; the ones after it tell.
        moves_on = any(
            centres[later] - centres[copy - 1] >= LEAST_ADVANCE_S * (later - copy + 1)
            for later in range(copy, copies)
        )
        if not moves_on:
            return copy
    return copies
