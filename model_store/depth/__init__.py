"""Depth plans, the catalogue of plans a model offers, and the policies that choose among them."""

from model_store.depth.catalogue import INPUT, POLICIES, PlanCatalogue, check_drop
from model_store.depth.look_ahead import (
    LayerTurn,
    Progress,
    check_look_ahead,
    frames_behind,
)
from model_store.depth.plan import MAX_STRIDE, STRIDES, DepthPlan, DepthSchedule, Segment

__all__ = [
    "INPUT",
    "MAX_STRIDE",
    "POLICIES",
    "STRIDES",
    "DepthPlan",
    "DepthSchedule",
    "LayerTurn",
    "PlanCatalogue",
    "Progress",
    "Segment",
    "check_drop",
    "check_look_ahead",
    "frames_behind",
]
