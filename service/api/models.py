"""`GET /v1/models`: the model and its aliases, which carry the dial to clients that set a name only.

`NAME` and `NAME-auto` leave the depth to us; `NAME-drop25` asks for drop=0.25, and so on for every
whole percent, whether it is listed or not.
"""

import re
from dataclasses import replace
from typing import Any

from fastapi import APIRouter

from service.engine.base import AUTO, DepthChoice, ModelInfo
from service.errors import ModelNotServed
from service.scheduling.files import Transcriber

_ALIAS = re.compile(r"(?P<name>.+)-(?:(?P<auto>auto)|drop(?P<percent>[0-9]{1,2}))", re.ASCII)
_MAX_QUOTED_CHARS = 60


def aliases_of(info: ModelInfo) -> list[str]:
    """List the names that a client may set: the model's own, auto, and one for each budget."""
    # Rounded down: a hundredth more depth than the budget has still chooses that budget's plan.
    percents = [int(plan.drop * 100 + 1e-9) for plan in info.offered]
    return [info.name, f"{info.name}-auto", *(f"{info.name}-drop{p}" for p in percents)]


def choice_for_model(model: str | None, choice: DepthChoice, info: ModelInfo) -> DepthChoice:
    """Read the dial from a model's alias, where the caller left it at `auto` otherwise.

    Raises:
        ModelNotServed: the name is no alias of what is served.
    """
    if model is None or model == info.name:
        return choice
    match = _ALIAS.fullmatch(model)
    if match is None or match["name"] != info.name:
        raise ModelNotServed(
            f"expected the model {info.name!r} or an alias of it, got {model[:_MAX_QUOTED_CHARS]!r}"
        )
    if match["auto"] or choice.drop != AUTO:
        return choice
    return replace(choice, drop=int(match["percent"]) / 100)


def models_router(transcriber: Transcriber) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="The model and its aliases")
    async def list_models() -> dict[str, Any]:  # Any: JSON, at the edge
        """List what may be named, and the depths on offer, deepest first."""
        info = transcriber.info
        depths = [
            {
                "layers": plan.effective_layers,
                "drop": plan.drop,
                "plan": list(plan.strides),
            }
            for plan in info.offered
        ]
        return {
            "object": "list",
            "data": [
                {"id": alias, "object": "model", "created": 0, "owned_by": "elastic-asr"}
                for alias in aliases_of(info)
            ],
            "layers_total": info.layers_total,
            "depths": depths,
            "policies": list(info.policies),
            "takes_hotwords": info.takes_hotwords,
        }

    return router
