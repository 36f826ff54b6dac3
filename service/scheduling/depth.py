"""From what a caller writes to a place on the dial."""

import re
from collections.abc import Callable

from service.engine.base import AUTO, LADDER, DepthChoice, PlanInUse
from service.errors import DepthRefused, DropOutOfRange

DropDecider = Callable[[], float]
"""What `drop=auto` means at this moment, in [0, 1); it is held to the caller's `max_drop`."""
Choose = Callable[[float, float | None, str], PlanInUse]
"""The plan for a drop, a `max_drop` and a policy: `Engine.choose`."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MAX_QUOTED_CHARS = 24
_HALVINGS = 10
"""Of the dial: budgets that are a thousandth apart are told apart."""


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


def chosen_plan(choice: DepthChoice, choose: Choose, decide: DropDecider) -> PlanInUse:
    """Give the plan for an explicit drop, and for `auto` what is decided within `max_drop`.

    Where no plan drops just as much as `max_drop` admits, `auto` takes the next deeper one.

    Args:
        choice: what a caller asks for.
        choose: the engine's.
        decide: what `auto` means.

    Raises:
        DepthError: the depth asked for is not on offer.
    """
    limit, policy = choice.max_drop, choice.policy
    if choice.drop != AUTO:
        return choose(choice.drop, limit, policy)
    # Word errors were measured for the ladder alone: of another family, load takes nothing.
    decided = decide() if policy == LADDER else 0.0
    if limit is None:
        return choose(decided, None, policy)
    return _shallowest_within(limit, min(decided, limit), choose, policy)


def _shallowest_within(limit: float, most: float, choose: Choose, policy: str) -> PlanInUse:
    """Find the plan that drops most of those that drop at most a limit; `most` may be too much."""
    try:
        return choose(most, limit, policy)
    except DepthRefused:
        enough, too_much = 0.0, most
    for _ in range(_HALVINGS):
        middle = (enough + too_much) / 2
        if choose(middle, None, policy).drop <= limit:
            enough = middle
        else:
            too_much = middle
    return choose(enough, limit, policy)


def _fraction(name: str, text: str, expected: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else -1.0
    if not 0 <= value < 1:
        raise DropOutOfRange(f"expected {name} to be {expected}, got {text[:_MAX_QUOTED_CHARS]!r}")
    return abs(value)  # -0.0 is 0.0
