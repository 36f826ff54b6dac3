"""The service as an application of Ray Serve: one replica is one engine and one controller.

    client -- HAProxy, or Serve's proxy --(the replica with the least load)--> replica: the app of `asr serve`
                                                                                  | tells its load
                  Serve's controller <-- autoscaling policy: depth debt, streams <--'

Nothing of the app is different here. What is around it: where it listens, who picks the replica, and
how it learns that it has to go (`service.fleet.view`).
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import ray
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from service.app import make_engine
from service.fleet.direct import listen_directly
from service.fleet.ledger import Ledger
from service.fleet.membership import ADDRESS, METRICS_ADDRESS, Membership
from service.fleet.replica import FleetReplica
from service.fleet.sockets import bind_to_node
from service.logs import configure_logs
from service.settings import LOOPBACK, Settings, read_settings

APP_NAME = "elastic-asr"
DEPLOYMENT = "replica"
REPORT_EVERY_S = 1.0
"""Of each replica, to the autoscaler and to those who pick replicas."""
HEALTH_CHECK_EVERY_S = 2.0
LATE = 4 / 3
"""Chunks that take so many times the controller's set point, and no depth helps, want replicas."""
CUT_OFF_S = 10.0
"""Time between our own end of the grace, which tells clients, and Serve's, which tells nobody."""
OTHER_REQUESTS = 64
"""Requests of a replica beside sockets and files: pages, health checks, those to be refused."""


class Replica:
    """What runs in each replica's process.

    Args:
        settings: of the service, the same in all replicas.
        balancer: address from which HAProxy comes; None where Serve's proxy does.
    """

    def __init__(self, settings: Settings, balancer: str | None) -> None:
        configure_logs(settings.log_level, settings.log_format)
        bind_to_node()
        context = serve.get_replica_context()
        self._context = context
        self._fleet = FleetReplica(
            settings,
            make_engine(settings),
            CollectorRegistry(),
            time.monotonic,
            context.replica_tag,
            Ledger().read,
        )
        if balancer is not None:
            # Where Ray's own ports are, which a cluster has to fence anyhow.
            node = ray.util.get_node_ip_address()
            listen_directly(self._fleet, settings, node, balancer)
        self._membership: Membership | None = None
        self._host = "127.0.0.1" if settings.host in LOOPBACK else ray.util.get_node_ip_address()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Give Serve the app."""
        return self._fleet.service.app

    async def check_health(self) -> None:
        """Hold the first check back until the model is loaded; then say whether all is well."""
        await self._fleet.check_health()
        if self._membership is None:
            self._fleet.begin()
            self._membership = Membership(
                self._context.app_name,
                self._context.deployment,
                self._context.replica_tag,
                self._fleet.update,
            )

    async def record_replica_metadata(self) -> dict[str, Any]:
        """Tell, once, what stays as it is."""
        addresses = {
            METRICS_ADDRESS: (self._host, self._fleet.metrics_port),
            ADDRESS: (ray.util.get_node_ip_address(), self._fleet.port),
        }
        return {name: f"{host}:{port}" for name, (host, port) in addresses.items() if port}

    async def record_routing_stats(self) -> dict[str, float]:
        """Tell who picks replicas, and the other replicas."""
        return self._fleet.report(self._rank()).as_stats()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell the autoscaling policy."""
        return self._fleet.report(self._rank()).as_stats()

    def _rank(self) -> int:
        # Asked for each time: it changes when a replica with a lower one goes.
        return serve.get_replica_context().rank.rank


def build(arguments: Mapping[str, Any]) -> Application:
    """Build the application from a Serve config file: `import_path: service.fleet.application:build`.

    Args:
        arguments: settings by their names, which go before those of the environment.
    """
    return application(read_settings(**dict(arguments)))


def application(settings: Settings, balancer: str | None = None) -> Application:
    """Build the application; the replicas get these settings whatever their own environment says.

    Args:
        settings: of the service.
        balancer: address from which HAProxy comes to them; None where Serve's proxy does.
    """
    cores = settings.replica_cores
    num_threads = max(1, math.floor(cores))
    settings = settings.model_copy(
        update={
            "engine_threads": min(settings.engine_threads, num_threads),
            # Behind one address that leads to any of them, the page of one would be read as all.
            "metrics_port": settings.metrics_port or 0,
        }
    )
    deployment = serve.deployment(
        name=DEPLOYMENT,
        ray_actor_options={
            "num_cpus": cores,
            "runtime_env": {
                "env_vars": {
                    "OMP_NUM_THREADS": str(num_threads),
                    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": str(REPORT_EVERY_S),
                }
            },
        },
        # Never what refuses: that is the service's own door, which says when to come again.
        max_ongoing_requests=settings.max_stream_sockets + settings.max_requests + OTHER_REQUESTS,
        graceful_shutdown_timeout_s=settings.shutdown_grace_s + CUT_OFF_S,
        graceful_shutdown_wait_loop_s=1.0,
        health_check_period_s=HEALTH_CHECK_EVERY_S,
        # The service has a log of its own.
        logging_config=LoggingConfig(enable_access_log=False),
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.replicas_min,
            max_replicas=settings.replicas_max,
            look_back_period_s=30.0,
            # The policy has its own patience.
            upscale_delay_s=0.0,
            downscale_delay_s=0.0,
            policy=AutoscalingPolicy(
                policy_function="service.fleet.autoscaling:ScalingPolicy",
                policy_kwargs={
                    "least": settings.replicas_min,
                    "most": settings.replicas_max,
                    "replica_weight": settings.replica_streams,
                    "remove_dwell_s": settings.replica_spare_s,
                    "late_s": LATE * settings.controller_setpoint_s,
                },
            ),
        ),
        request_router_config=RequestRouterConfig.model_validate(
            {
                "request_router_class": "service.fleet.routing:LeastLoadRouter",
                "request_routing_stats_period_s": REPORT_EVERY_S,
            }
        ),
    )
    return deployment(serve.ingress()(Replica)).bind(settings, balancer)
