"""How many parameters a depth plan runs: the size of the static model that it amounts to."""

from model_store.backbones.build import AnyModule
from model_store.depth import STRIDES, DepthPlan

BY_STRIDE = "_SD"
POOLED = ("pool_RD.", "give_RD.")


def parameters_used(model: AnyModule, plan: DepthPlan) -> int:
    """Count the parameters that a forward at a plan reads.

    A skipped layer's count only in its bypass, and in the norm that it keeps where the backbone
    has one. Of norms that have a row for each stride, the row in use counts; of the weights of
    means and repeats, those of the layer's stride.
    """
    return sum(
        value.numel() // (value.shape[0] if name.endswith(BY_STRIDE) else 1)
        for name, value in model.named_parameters()
        if _is_used(name, plan)
    )


def _is_used(name: str, plan: DepthPlan) -> bool:
    prefix = "encoder.stack.layers."
    if not name.startswith(prefix):
        return True
    index, part = name.removeprefix(prefix).split(".", 1)
    stride = plan.strides[int(index)]
    if part.startswith("final_norm."):
        return True
    if part.startswith("bypass."):
        return stride == 0
    if part.startswith(POOLED):
        return stride in STRIDES[1:] and part.endswith(f".{stride}")
    return stride > 0
