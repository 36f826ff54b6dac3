"""What a caller's tier is worth under load.

Load shows in the plan that `drop=auto` gets: it is the deepest while there is room. As soon as it
is not,

- a caller of the tier `standard` may not pin a deeper one, by `drop` or by `max_drop`: such a
  request is refused, as an explicit drop is never changed silently;
- a caller of the tier `priority` may.

Of the places of streams, some may be kept for `priority`. What the machine carries may be less than
the number of places: then the door leaves room for as many, and shuts for `standard` that much
earlier. When streams are late already it shuts for all, since one more would help nobody.

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
        leaves_no_room: whether one more stream would leave too little room for those that are kept.
    """

    def __init__(
        self,
        plan_for: Callable[[DepthChoice], PlanInUse],
        streams: Places,
        num_shared: int,
        leaves_no_room: Callable[[], bool],
    ) -> None:
        self._plan_for = plan_for
        self._streams = streams
        self._num_shared = num_shared
        self._leaves_no_room = leaves_no_room

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

        Whether there is room for one more at all is asked, of callers of any tier, when the place
        is taken.

        Raises:
            Overloaded: the places left are reserved.
        """
        if caller.tier is Tier.PRIORITY:
            return
        if self._streams.num_taken >= self._num_shared:
            expected = f"a free place among {self._num_shared}"
        elif self._leaves_no_room():
            expected = "room for one more beside what is reserved"
        else:
            return
        retry_after_s = self._streams.retry_after_s
        raise Overloaded(f"expected {expected}, got none", retry_after_s=retry_after_s)
