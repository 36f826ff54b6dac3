"""The depth of one stream: what its client asks for, what runs, and when a change is told."""

from collections.abc import Callable

from service.engine.base import AUTO, DepthChoice, PlanInUse
from service.errors import DepthError
from service.scheduling.depth import DropDecider, decided_drop
from service.streaming.events import Depth

Choose = Callable[[float, float | None, str], PlanInUse]


class Dial:
    """Turns by the client's hand or by the service's.

    Args:
        choice: what the client asked for at first.
        choose: the engine's.
        decide: what `auto` means.

    Raises:
        DepthError: the depth asked for is not on offer.
    """

    def __init__(self, choice: DepthChoice, choose: Choose, decide: DropDecider) -> None:
        self._choice = choice
        self._choose = choose
        self._decide = decide
        self._told = self._wanted(choice)

    @property
    def told(self) -> PlanInUse:
        """The plan that the client knows of."""
        return self._told

    @property
    def source(self) -> str:
        """Who turns it, for metrics."""
        return "auto" if self._choice.drop == AUTO else "request"

    def check(self, choice: DepthChoice) -> None:
        """Refuse what is not on offer.

        Raises:
            DepthError: it is not.
        """
        self._wanted(choice)

    def turn(self, choice: DepthChoice, running: PlanInUse | None) -> Depth | None:
        """Take a new choice; `running` is the plan of the utterance that is open."""
        self._choice = choice
        wanted = self._wanted(choice)
        if wanted == self._told:
            return None
        self._told = wanted
        held = running is not None and not may_follow(running, wanted)
        return Depth(wanted, "configure", "next_utterance" if held else "next_chunk")

    def plan(self, running: PlanInUse | None) -> tuple[PlanInUse, Depth | None]:
        """Give the plan of the next chunk, and what there is to tell about it."""
        try:
            wanted = self._wanted(self._choice)
        except DepthError:  # the service wants less than this client's `max_drop` leaves on offer
            wanted = self._told
        if running is not None and not may_follow(running, wanted):
            return running, None
        if wanted == self._told:
            return wanted, None
        self._told = wanted
        return wanted, Depth(wanted, "auto", "next_chunk")

    def _wanted(self, choice: DepthChoice) -> PlanInUse:
        return self._choose(decided_drop(choice, self._decide), choice.max_drop, choice.policy)


def may_follow(running: PlanInUse, wanted: PlanInUse) -> bool:
    """Tell whether a plan may run on in an utterance: skipped layers have no cache to rise into."""
    skipped = [stride == 0 for stride in running.strides]
    return skipped == [stride == 0 for stride in wanted.strides]
