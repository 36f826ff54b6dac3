"""Hears from Serve's controller which replicas run.

Serve has no public call for that from inside a replica. This asks what Serve's own routers ask: the
one module of ours that knows Ray's private names, checked by a test on a real cluster.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.serve._private.common import DeploymentID, DeploymentTargetInfo
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve._private.long_poll import LongPollClient, LongPollNamespace

from service.fleet.reports import ReplicaReport
from service.fleet.view import Member

logger = logging.getLogger(__name__)

ADDRESS, METRICS_ADDRESS = "address", "metrics_address"
"""Where a replica's metadata hold its own address, and that of its metrics."""


def controller_id() -> str:
    """Give what Serve's controller has and none before it had; a restart keeps it.

    Raises:
        ValueError: Serve does not run.
    """
    controller: Any = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    return controller._actor_id.hex()


class Membership:
    """Calls back with the list of replicas, now and whenever it or a report in it changes.

    Args:
        app_name, deployment: of the replicas.
        listener: who asks, for Ray's logs.
        on_change: called on the running event loop.
    """

    def __init__(
        self,
        app_name: str,
        deployment: str,
        listener: str,
        on_change: Callable[[Mapping[str, Member]], None],
    ) -> None:
        self._on_change = on_change
        controller: Any = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        key: Any = (LongPollNamespace.DEPLOYMENT_TARGETS, DeploymentID(deployment, app_name))
        self._client = LongPollClient(
            controller,
            {key: self._changed},
            call_in_event_loop=asyncio.get_running_loop(),
            client_id=f"elastic-asr {listener}",
        )

    def stop(self) -> None:
        """Listen no more."""
        self._client.stop()

    def _changed(self, targets: DeploymentTargetInfo) -> None:
        members: dict[str, Member] = {}
        for one in targets.running_replicas:
            name = one.replica_id.unique_id
            told = one.replica_metadata
            members[name] = Member(
                name,
                ReplicaReport.from_stats(one.routing_stats),
                told.get(METRICS_ADDRESS),
                told.get(ADDRESS),
            )
        self._on_change(members)
