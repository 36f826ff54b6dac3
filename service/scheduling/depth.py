"""From what a caller writes to a place on the dial."""

import re
from collections.abc import Callable

from service.engine.base import AUTO, DepthChoice
from service.errors import DropOutOfRange

DropDecider = Callable[[], float]
"""What `drop=auto` means at this moment, in [0, 1); it is held to the caller's `max_drop`."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MAX_QUOTED_CHARS = 24


def parse_choice(drop: str, max_drop: str | None, policy: str) -> DepthChoice:
    """Read the dial as it stands in a query or on a command line.

    Raises:
        DropOutOfRange: a value is neither `auto` (for drop) nor a number in [0, 1).
    """
    return DepthChoice(
        AUTO if drop == AUTO else _fraction("drop", drop, "'auto' or a number in [0, 1)"),
        None if max_drop is None else _fraction("max_drop", max_drop, "a number in [0, 1)"),
        policy,
    )


def deepest() -> float:
    """Decide for full depth, whatever the load."""
    return 0.0


def decided_drop(choice: DepthChoice, decide: DropDecider) -> float:
    """Give an explicit drop as it is, and for `auto` what is decided within `max_drop`."""
    if choice.drop != AUTO:
        return choice.drop
    return min(decide(), 1.0 if choice.max_drop is None else choice.max_drop)


def _fraction(name: str, text: str, expected: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else -1.0
    if not 0 <= value < 1:
        raise DropOutOfRange(f"expected {name} to be {expected}, got {text[:_MAX_QUOTED_CHARS]!r}")
    return abs(value)  # -0.0 is 0.0
