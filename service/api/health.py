"""Whether the process lives, and whether it wants work."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from service.scheduling.admission import Admission, Phase


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
    async def readyz() -> JSONResponse:
        """Answer 503 while loading, saturated or draining: send requests elsewhere."""
        reason = _reason(admission)
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not_ready", "reason": reason}, 503)

    return router


def _reason(admission: Admission) -> str | None:
    if admission.phase is not Phase.READY:
        return admission.phase.value
    return "saturated" if admission.saturated else None
