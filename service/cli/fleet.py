"""`asr fleet`: the service as many replicas, on this machine or on a Ray cluster."""

import logging

from service.cli.serve import check_tls, warn_of_idle_reserve, warn_of_open_doors
from service.fleet.deploy import expect_ray, run_here, run_on
from service.settings import Settings

logger = logging.getLogger(__name__)


def fleet(settings: Settings, address: str | None) -> int:
    """Serve until told to stop, or deploy.

    Args:
        settings: as read.
        address: of a cluster that runs already; None starts one of this machine alone.

    Returns:
        0 once the fleet has ended, or is deployed.

    Raises:
        ExtraMissing: Ray is not installed.
        SettingsInvalid: the port is taken, no cluster is there, or the certificate is of no use.
    """
    expect_ray("fleet")
    logger.info("settings: %s", settings.model_dump())
    warn_of_open_doors(settings)
    warn_of_idle_reserve(settings)
    check_tls(settings)
    if address is None:
        run_here(settings)
    else:
        run_on(address, settings)
    return 0
