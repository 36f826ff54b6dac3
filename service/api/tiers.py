"""What a caller's tier is worth under load.

Load shows in the plan that `drop=auto` gets: it is the deepest while there is room. As soon as it
is not,

- a caller of the tier `standard` may not pin a deeper one, by `drop` or by `max_drop`: such a
  request is refused, as an explicit drop is never changed silently;
- a caller of the tier `priority` may.

Of the places of streams, some may be kept for `priority`. That is a matter of their number alone:
when the door shuts earlier, since one more stream would make the others late, it shuts for all.

A stream that pinned its depth before the load came keeps it.
"""

from collections.abc import Callable

from service.api.keys import Caller, Tier
from service.engine.base import DepthChoice, PlanInUse
from service.errors import DepthNotNow, Overloaded
from service.scheduling.admission import Places

RETRY_S = 15
"""Seconds after which depth may be back: load that has gone is answered within half a minute."""
_ROUNDING = 1e-9


class Privileges:
    """Decides by tier.

    Args:
        plan_for: gives the plan that a choice means at this moment.
        streams: places of all streams that speak.
        num_shared: of them, those that callers of any tier may take.
    """

    def __init__(
        self, plan_for: Callable[[DepthChoice], PlanInUse], streams: Places, num_shared: int
    ) -> None:
        self._plan_for = plan_for
        self._streams = streams
        self._num_shared = num_shared

    def check_depth(self, caller: Caller, choice: DepthChoice) -> None:
        """Let a caller pin the depth asked for, or not.

        Raises:
            DepthError: the depth asked for is not on offer.
            DepthNotNow: the load leaves less to callers of this tier.
        """
        asked = self._plan_for(choice)
        if caller.tier is Tier.PRIORITY:
            return
        given = self._plan_for(DepthChoice())
        if asked.effective_layers > given.effective_layers + _ROUNDING:
            raise DepthNotNow(
                f"expected at most {given.layers_text} layers under the present load, "
                f"got {asked.layers_text}",
                retry_after_s=RETRY_S,
            )

    def check_place(self, caller: Caller) -> None:
        """Let a caller take a stream's place, or keep it for those it is reserved for.

        Only the number of places counts here; whether there is room for one more stream is asked,
        of callers of any tier, when the place is taken.

        Raises:
            Overloaded: the places left are reserved.
        """
        if caller.tier is not Tier.PRIORITY and self._streams.num_taken >= self._num_shared:
            raise Overloaded(
                f"expected a free place among {self._num_shared}, got none",
                retry_after_s=self._streams.retry_after_s,
            )
