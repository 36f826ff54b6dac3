"""Loops in a transcript, told apart from words that are spoken twice by where attention looks.

A decoder that loops writes the same tokens again while its cross-attention stays where it is, or
jumps back. A speaker who says 'no no no' or a string of digits moves it forward with every copy.
"""

from collections.abc import Sequence

LONGEST_PERIOD = 24
"""Tokens; loops of whole sentences are that long."""

PHRASE = 3
"""Tokens from which a second copy is proof enough; of shorter ones there have to be three."""

LEAST_ADVANCE_S = 0.06
"""Nobody says a word again within less."""


def without_loops(tokens: Sequence[int], position_s: Sequence[float]) -> int:
    """Give how many tokens to keep, from the start.

    Args:
        tokens: of one transcript, without prompt and end token.
        position_s: where in the audio each token's attention lies.
    """
    for start in range(len(tokens)):
        for period in range(1, min(LONGEST_PERIOD, len(tokens) - start - 1) + 1):
            if tokens[start + period] != tokens[start]:
                continue
            length = _repeated(tokens, start, period)
            if length < (2 * PHRASE if period >= PHRASE else 3 * period):
                continue
            kept = _advancing(position_s[start : start + length], period)
            if kept < length:
                return start + kept
    return len(tokens)


def _repeated(tokens: Sequence[int], start: int, period: int) -> int:
    """Count the tokens from `start` that repeat with a period; a last copy in part only at the end."""
    end = start + period
    while end < len(tokens) and tokens[end] == tokens[end - period]:
        end += 1
    in_part = (end - start) % period
    if in_part and (end < len(tokens) or in_part < PHRASE):
        end -= in_part
    return end - start if end - start > period else 0


def _advancing(position_s: Sequence[float], period: int) -> int:
    """Count the tokens until attention moves on no more, on average over any copies that follow."""
    first = position_s[:period]
    starts = range(0, len(position_s), period)
    copies = [position_s[start : start + period] for start in starts]
    # How far each copy, the last one perhaps in part, lies behind the first.
    behind_s = [
        sum(there - here for there, here in zip(copy, first, strict=False)) / len(copy)
        for copy in copies
    ]
    for copy in range(1, len(copies)):
        # One copy may seem to stand still while attention finds its place; the ones after it tell.
        moves_on = any(
            behind_s[later] - behind_s[copy - 1] >= LEAST_ADVANCE_S * (later - copy + 1)
            for later in range(copy, len(copies))
        )
        if not moves_on:
            return copy * period
    return len(position_s)
