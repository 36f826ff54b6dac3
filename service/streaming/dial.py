"""The depth of one stream: what its client asks for, what runs, and when a change is told."""

from service.engine.base import AUTO, DepthChoice, PlanInUse
from service.scheduling.depth import Choose, DropDecider, chosen_plan
from service.streaming.events import Depth


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
    def wanted(self) -> PlanInUse:
        """The plan that a chunk would have now, were no utterance under way."""
        return self._wanted(self._choice)

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
        wanted = self._wanted(self._choice)
        if running is not None and not may_follow(running, wanted):
            return running, None
        if wanted == self._told:
            return wanted, None
        self._told = wanted
        return wanted, Depth(wanted, "auto", "next_chunk")

    def _wanted(self, choice: DepthChoice) -> PlanInUse:
        return chosen_plan(choice, self._choose, self._decide)


def may_follow(running: PlanInUse, wanted: PlanInUse) -> bool:
    """Tell whether a plan may run on in an utterance: skipped layers have no cache to rise into."""
    if running.by_input or wanted.by_input:
        # What the input picked holds for its utterance; the example of a budget stands for it.
        budgets = (running.effective_layers, wanted.effective_layers)
        return running.by_input and wanted.by_input and budgets[0] == budgets[1]
    skipped = [stride == 0 for stride in running.strides]
    return skipped == [stride == 0 for stride in wanted.strides]
