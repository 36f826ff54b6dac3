"""What a replica says of itself: to the autoscaler, to whoever picks replicas, to its neighbours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from service.app import Service
from service.scheduling.admission import Phase
from service.scheduling.load_control import StreamDial

STATS_DECIMALS = 2
"""Every change of a report goes to all who route: a change that nobody acts on is rounded away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReport:
    """The load of one replica at a moment.

    Args:
        rank: its number in the fleet, from 0; one that leaves passes it on.
        weight: its streams and files, each counted as the depth it may claim.
        streams: streams that hold a place.
        files: requests in work.
        depth_debt: what `drop=auto` means now, 0 at full depth.
        lag_s: 95th percentile of the time from a chunk's last sample to the end of its step.
        busy_ratio: share of the last seconds that the engine worked.
        open: whether it takes another stream.
    """

    rank: int = 0
    weight: float = 0.0
    streams: int = 0
    files: int = 0
    depth_debt: float = 0.0
    lag_s: float = 0.0
    busy_ratio: float = 0.0
    open: bool = True

    def as_stats(self) -> dict[str, float]:
        """Give plain numbers, as they go over the wire."""
        return {name: round(float(value), STATS_DECIMALS) for name, value in asdict(self).items()}

    @classmethod
    def from_stats(cls, stats: Mapping[str, float]) -> "ReplicaReport":
        """Read `as_stats`; what is not there is as in a replica that does nothing."""
        return cls(
            rank=int(stats.get("rank", 0)),
            weight=stats.get("weight", 0.0),
            streams=int(stats.get("streams", 0)),
            files=int(stats.get("files", 0)),
            depth_debt=stats.get("depth_debt", 0.0),
            lag_s=stats.get("lag_s", 0.0),
            busy_ratio=stats.get("busy_ratio", 0.0),
            open=bool(stats.get("open", 1.0)),
        )


def report_of(service: Service, now_s: float, rank: int) -> ReplicaReport:
    """Read a replica's own objects.

    Args:
        service: of the replica.
        now_s: of the service's clock.
        rank: its number in the fleet.
    """
    admission, control = service.admission, service.control
    reading = control.window.read(now_s)
    return ReplicaReport(
        rank=rank,
        weight=stream_weight(service.scheduler.dials, admission.streams.num_taken)
        + admission.num_working,
        streams=admission.streams.num_taken,
        files=admission.num_working,
        depth_debt=control.decide(),
        lag_s=reading.latency_s,
        busy_ratio=reading.busy_ratio,
        open=admission.phase is Phase.READY and not admission.streams.full,
    )


def stream_weight(dials: Sequence[StreamDial], num_places: int) -> float:
    """Add up streams by the depth they may claim.

    One that leaves its depth to the load counts as a whole one: were it counted at the depth it has
    now, the replica that gave up most would look like the emptiest.

    Args:
        dials: of the streams that the engine knows.
        num_places: that are taken; those of streams that the engine does not know yet count whole.
    """
    claims = _claims(dials)
    return sum(claims) + max(0, num_places - len(claims))


def _claims(dials: Iterable[StreamDial]) -> list[float]:
    return [1.0 if dial.source == "auto" else 1.0 - dial.wanted.drop for dial in dials]
