"""Starts the fleet: on this machine, until told to stop, or on a cluster that runs already."""

import logging
import signal
import socket
import threading
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING

from service.errors import ExtraMissing, SettingsInvalid
from service.fleet.haproxy import haproxy_program
from service.settings import LOOPBACK, Settings, set_up_ray

if TYPE_CHECKING:
    from ray.serve.config import HTTPOptions

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""Sound and captions go straight through; what Ray would share is next to nothing."""
REACHABLE_S = 5.0
SPARE_CORES = 1.0
"""Logical cores of the local node beside those of the replicas, for Serve's own processes."""


def expect_ray(command: str) -> None:
    """Make sure that Ray is installed.

    Raises:
        ExtraMissing: it is not.
    """
    if find_spec("ray") is None:
        raise ExtraMissing(
            f"expected the extra ray for asr {command}, found no Ray; "
            "pip install 'elastic-asr[ray]'"
        )


def run_here(settings: Settings) -> None:
    """Start Ray and the fleet on this machine, and end both at SIGINT or SIGTERM.

    Raises:
        SettingsInvalid: the port is taken.
    """
    settings = settings.model_copy(update={"port": _free_port(settings)})
    if settings.fleet_ingress == "haproxy":
        haproxy_program()  # whether there is one, before anything starts
    set_up_ray(loopback=settings.host in LOOPBACK)
    import ray
    from ray import serve

    ray.init(
        address="local",  # a cluster that runs here as well is somebody else's
        num_cpus=max(1, round(settings.replicas_max * settings.replica_cores + SPARE_CORES)),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        configure_logging=False,
    )
    try:
        deploy(settings, everywhere=False)
        told = _told_to_stop()  # only now: Ray sets handlers of its own, which end the process
        logger.info("the fleet is running on http://%s:%d", settings.host, settings.port)
        told.wait()
        logger.info("stopping: streams have %g s", settings.shutdown_grace_s)
        # The replicas drain; what is deleted at once would cut their streams.
        from service.fleet.application import APP_NAME
        from service.fleet.ingress import lead_nowhere

        serve.delete(APP_NAME)
        lead_nowhere()
        serve.shutdown()
    finally:
        ray.shutdown()


def run_on(address: str, settings: Settings) -> None:
    """Deploy to a cluster and leave it running.

    Args:
        address: as `ray.init` takes it: `auto`, HOST:PORT, or ray://HOST:PORT.
        settings: of the service, the same in all replicas.

    Raises:
        SettingsInvalid: no cluster is there.
    """
    _expect_somebody_at(address)
    set_up_ray(loopback=False)
    import ray

    try:
        ray.init(address=address, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsInvalid(f"expected a Ray cluster at {address}, found none") from error
    try:
        deploy(settings, everywhere=True)
        where = (
            "the head node" if settings.fleet_ingress == "haproxy" else "every node with a replica"
        )
        logger.info("deployed; %s serves on port %d", where, settings.port)
    finally:
        ray.shutdown()


def deploy(settings: Settings, *, everywhere: bool) -> None:
    """Deploy to the cluster that this process is connected to; returns once replicas are ready.

    Args:
        settings: of the service.
        everywhere: whether Ray's proxy, if that is the way in, serves on every node with a replica.
            HAProxy serves on the head node.

    Raises:
        SettingsInvalid: HAProxy does not start.
    """
    # Imported once the environment is set: Ray reads it when it is imported.
    from ray import serve
    from ray.serve.config import ProxyLocation
    from ray.serve.schema import LoggingConfig

    from service.fleet.application import APP_NAME, DEPLOYMENT, application
    from service.fleet.ingress import head_address, lead_in, lead_nowhere

    by_ray = settings.fleet_ingress == "ray"
    proxies = ProxyLocation.EveryNode if everywhere else ProxyLocation.HeadOnly
    serve.start(
        proxy_location=proxies if by_ray else ProxyLocation.Disabled,
        http_options=_http_options(settings),
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    balancer = None if by_ray else head_address()
    serve.run(application(settings, balancer), name=APP_NAME, route_prefix="/")
    if by_ray:
        lead_nowhere()
    else:
        lead_in(settings, APP_NAME, DEPLOYMENT)


def _http_options(settings: Settings) -> "HTTPOptions":
    from ray.serve.config import HTTPOptions

    return HTTPOptions(
        host=settings.host,
        port=settings.port,
        keep_alive_timeout_s=settings.keep_alive_s,
        ssl_certfile=settings.tls_certificate and str(settings.tls_certificate),
        ssl_keyfile=settings.tls_key and str(settings.tls_key),
    )


def _told_to_stop() -> threading.Event:
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: told.set())
    return told


def _expect_somebody_at(address: str) -> None:
    # Ray itself tries for minutes, and says meanwhile what only those know who wrote it.
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHABLE_S).close()
    except OSError as error:
        raise SettingsInvalid(f"expected a Ray cluster at {address}, found none") from error


def _free_port(settings: Settings) -> int:
    # Serve does not say that a port is taken: it tries for ever.
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsInvalid(
                f"expected port {settings.port} of {settings.host} to be free, got one in use"
            ) from error
        return probe.getsockname()[1]
