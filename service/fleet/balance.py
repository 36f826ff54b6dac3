"""How many of its streams a replica asks to go on elsewhere, once others have room.

New streams go to the emptier replicas by themselves. Those that are open stay where they are, so a
replica that gave up depth before others came would go on giving it up: some of its streams have to
move, and no more than bring it to the mean.
"""

import math
from collections.abc import Mapping

from service.fleet.view import Member
from service.scheduling.clock import Clock

SETTLES_S = 20.0
"""Time from asking to the next asking: those asked leave at a pause, which takes up to ten."""


def num_above_mean(name: str, members: Mapping[str, Member]) -> int:
    """Count the streams that a replica has above the mean, if it gives up depth for them.

    Args:
        name: of the replica.
        members: all that run. Those that take no stream do not count: nobody can move there.
    """
    own = members.get(name)
    if own is None or own.report.depth_debt <= 0:
        return 0
    others = [one.report.weight for one in members.values() if one.report.open and one is not own]
    if not others:
        return 0
    mean = (own.report.weight + sum(others)) / (1 + len(others))
    return max(0, math.floor(own.report.weight - mean))


class Balance:
    """Says when, and how many.

    Args:
        name: of the replica.
        clock: monotonic seconds.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._asked_at_s = -math.inf

    def num_to_ask(self, members: Mapping[str, Member]) -> int:
        """Give how many streams should be asked now, 0 while those asked before may still leave."""
        if self._clock() - self._asked_at_s < SETTLES_S:
            return 0
        return num_above_mean(self._name, members)

    def asked(self, num_asked: int) -> None:
        """Learn how many were."""
        if num_asked:
            self._asked_at_s = self._clock()
