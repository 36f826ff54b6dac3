"""Depth plans, the catalogue of plans a model offers, and the policies that choose among them."""

from model_store.depth.catalogue import INPUT, POLICIES, PlanCatalogue, check_drop
from model_store.depth.plan import MAX_STRIDE, STRIDES, DepthPlan, DepthSchedule, Segment

__all__ = [
    "INPUT",
    "MAX_STRIDE",
    "POLICIES",
    "STRIDES",
    "DepthPlan",
    "DepthSchedule",
    "PlanCatalogue",
    "Segment",
    "check_drop",
]
