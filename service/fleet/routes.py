"""What a fleet says of itself over HTTP, whichever replica is asked."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from service.fleet.view import FleetView


def fleet_router(view: FleetView) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["operation"])

    @router.get("/fleet", summary="The replicas and their load")
    async def fleet() -> dict[str, Any]:  # Any: JSON
        """Give what each replica last said of itself, by rank."""
        members = sorted(view.members.values(), key=lambda one: one.report.rank)
        return {"replicas": [{"name": one.name, **asdict(one.report)} for one in members]}

    @router.get("/fleet/targets", summary="Where Prometheus finds every replica's metrics")
    async def targets() -> JSONResponse:
        """Answer Prometheus's `http_sd_configs`; label `replica` is the rank, so it is bounded."""
        return JSONResponse(
            [
                {
                    "targets": [one.metrics_address],
                    "labels": {"replica": str(one.report.rank)},
                }
                for one in sorted(view.members.values(), key=lambda one: one.report.rank)
                if one.metrics_address is not None
            ]
        )

    return router
