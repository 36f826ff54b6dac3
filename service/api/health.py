"""Whether the process lives, and whether it wants work."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from service.scheduling.admission import Admission, Phase

SATURATED = "saturated"


def health_router(admission: Admission) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["operation"])

    @router.get("/livez", summary="Does the process live?")
    async def livez() -> dict[str, str]:
        """Answer, whatever the load: restart the process if this fails."""
        return {"status": "live"}

    @router.get(
        "/readyz",
        summary="Does the process want work?",
        responses={503: {"description": "Not now; `reason` says why."}},
    )
    async def readyz(
        saturated: Annotated[
            Literal["ok"] | None,
            Query(description="`ok` counts a saturated process as ready, for orchestrators."),
        ] = None,
    ) -> JSONResponse:
        """Answer 503 while loading, saturated or draining: send requests elsewhere.

        An orchestrator that takes who is not ready for broken asks with `saturated=ok`.
        """
        reason = _reason(admission)
        if saturated == "ok" and reason == SATURATED:
            reason = None
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not_ready", "reason": reason}, 503)

    return router


def _reason(admission: Admission) -> str | None:
    if admission.phase is not Phase.READY:
        return admission.phase.value
    return SATURATED if admission.saturated else None
