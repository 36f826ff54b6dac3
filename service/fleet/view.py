"""What a replica knows of the fleet: who runs, how they are, and whether it is still one of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from service.fleet.reports import ReplicaReport


@dataclass(frozen=True, slots=True)
class Member:
    """A replica that new streams may go to.

    Args:
        name: unique, for ever.
        report: its latest.
        metrics_address: host and port of its metrics; None before it has said.
        address: host and port of its own, where it has one.
    """

    name: str
    report: ReplicaReport
    metrics_address: str | None = None
    address: str | None = None


class Standing(Enum):
    """Where a replica is in its life, as the fleet sees it."""

    AWAITED = "awaited"
    MEMBER = "member"
    DISMISSED = "dismissed"


@dataclass(slots=True)
class FleetView:
    """Follows who is in the fleet.

    Ray tells a replica that it has to go by leaving it out of the list of those that run, at once
    and while requests are open; anything else it hears only when it is too late to warn anybody.

    Args:
        name: of the replica whose view this is.
        on_dismissed: called once, when it is no longer one of them.
    """

    name: str
    on_dismissed: Callable[[], None]
    members: Mapping[str, Member] = field(default_factory=dict[str, Member])
    standing: Standing = Standing.AWAITED

    def update(self, members: Mapping[str, Member]) -> None:
        """Take the new list."""
        self.members = members
        if self.name in members:
            if self.standing is Standing.AWAITED:
                self.standing = Standing.MEMBER
        elif self.standing is Standing.MEMBER:
            self.standing = Standing.DISMISSED
            self.on_dismissed()
