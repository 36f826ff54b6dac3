"""Which replica the next stream goes to: the one with the least load, by what is known of it.

Reports are up to a second or two old. What was sent to a replica and is not in its report yet counts
on top of it, so that a burst does not all go to the one that looked emptiest.
"""

from collections import Counter
from collections.abc import Mapping

from service.fleet.reports import ReplicaReport
from service.scheduling.clock import Clock

MAX_BALANCER_WEIGHT = 256
"""Of a server in HAProxy."""
REPORT_TAKES_S = 3.0
"""Time after which what was sent to a replica is in its report, or was refused there."""


class SentLately:
    """What this router has sent and no report shows yet.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: dict[str, tuple[str, float]] = {}
        self._shown: dict[str, int] = {}

    def sent(self, replica: str, request: str) -> None:
        """Note where a request went, or is about to; what was noted of it before is void."""
        self._sent[request] = (replica, self._clock())

    def ended(self, request: str) -> None:
        """Note that it is over."""
        self._sent.pop(request, None)

    def numbers(self, reports: Mapping[str, ReplicaReport]) -> Counter[str]:
        """Count, by replica, those that are under way and in no report.

        As many as a report shows more than the one before it have arrived, the earliest first: counted
        there and here, a replica would seem twice as loaded for having told so first.

        Args:
            reports: of each replica, as they are now.
        """
        old_s = self._clock() - REPORT_TAKES_S
        for request in [one for one, (_, at_s) in self._sent.items() if at_s <= old_s]:
            del self._sent[request]
        shown = {name: report.streams + report.files for name, report in reports.items()}
        for name, number in shown.items():
            under_way = [one for one, (replica, _) in self._sent.items() if replica == name]
            for request in under_way[: max(0, number - self._shown.get(name, 0))]:
                del self._sent[request]
        self._shown = shown
        return Counter(replica for replica, _ in self._sent.values())


def by_load(
    reports: Mapping[str, ReplicaReport], num_sent: Mapping[str, int], ties: Mapping[str, float]
) -> list[str]:
    """Put replicas in the order in which they should be asked.

    Args:
        reports: of each.
        num_sent: requests that went to each since.
        ties: a random number for each, so that routers that know the same do not all pick the same.
    """
    return sorted(
        reports,
        key=lambda name: (
            not reports[name].open,
            reports[name].weight + num_sent.get(name, 0),
            ties.get(name, 0.0),
        ),
    )


def balancer_weights(reports: Mapping[str, ReplicaReport]) -> dict[str, int]:
    """Give each replica the weight by which a count of connections becomes its load.

    A balancer that sends to the least of connections over weight counts its own connections to the
    moment. What it cannot see is that some weigh less than others, and who takes no streams: those
    get no new connection, unless nobody takes any; then all are asked, and say when to come again.

    Args:
        reports: of each.
    """
    open_ones = {name: one for name, one in reports.items() if one.open} or reports
    lightness = {
        name: (one.streams + one.files + 1) / (one.weight + 1) for name, one in open_ones.items()
    }
    most = max(lightness.values(), default=1.0)
    shut = dict.fromkeys(reports.keys() - open_ones.keys(), 0)
    return shut | {
        name: max(1, round(MAX_BALANCER_WEIGHT * one / most)) for name, one in lightness.items()
    }
