"""`by_load` as the request router of Ray Serve."""

import random
import time

from ray.serve.request_router import (
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from service.fleet.picking import SentLately, by_load
from service.fleet.reports import ReplicaReport


class LeastLoadRouter(RequestRouter):
    """Sends a request to the replica that says it has the least to do."""

    def initialize_state(self, **_options: object) -> None:
        """Begin; Serve calls this once, in place of a constructor."""
        self._sent = SentLately(time.monotonic)
        # No key and no lot that anybody could gain by guessing.
        self._random = random.Random()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Give the replicas, each as a rank of its own, the one with the least load first."""
        if pending_request is not None:
            # Serve goes round at once, and without end, unless it is told to wait in between.
            pending_request.routing_context.should_backoff = True
        replicas = {one.replica_id.unique_id: one for one in candidate_replicas}
        reports = {
            name: ReplicaReport.from_stats(one.routing_stats) for name, one in replicas.items()
        }
        order = by_load(
            reports,
            self._sent.numbers(reports),
            {name: self._random.random() for name in replicas},
        )
        if pending_request is not None and order:
            # Noted here and not once it is on its way: others are picked for in between.
            self._sent.sent(order[0], pending_request.metadata.internal_request_id)
        return [[replicas[name]] for name in order]

    def on_request_routed(
        self,
        pending_request: PendingRequest,
        replica_id: ReplicaID,
        result: object,
    ) -> None:
        """Learn where a request went."""
        self._sent.sent(replica_id.unique_id, pending_request.metadata.internal_request_id)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Learn that it is over."""
        self._sent.ended(internal_request_id)
