"""Pooling rows of frames to the rows of a layer, and giving the layer's change back.

As `model_store.backbones.elastic` defines it: a layer at stride r sees weighted sums of r
neighbouring frames; the last group of an utterance is completed by repeating its last frame.

Dimensions: T = frames, G = ceil(T / r) rows, D = channels, R = stride.
"""

import numpy as np

from service.engine.onnx.checkpoint import Floats


def pooled(x_TD: Floats, weight_RD: Floats) -> Floats:
    """Weigh and add each group's frames; (T, D) -> (G, D)."""
    stride, dim = weight_RD.shape
    whole, rest = divmod(len(x_TD), stride)
    pooled_GD = np.empty((whole + bool(rest), dim), np.float32)
    x_GRD = x_TD[: whole * stride].reshape(whole, stride, dim)
    np.einsum("grd,rd->gd", x_GRD, weight_RD, out=pooled_GD[:whole])
    if rest:
        left_RD = weight_RD[: rest - 1]
        pooled_GD[whole] = (x_TD[whole * stride : -1] * left_RD).sum(0)
        pooled_GD[whole] += x_TD[-1] * weight_RD[rest - 1 :].sum(0)
    return pooled_GD


def give_back(x_TD: Floats, change_GD: Floats, weight_RD: Floats) -> None:
    """Add each group's change to all of its frames, in place."""
    stride, dim = weight_RD.shape
    whole, rest = divmod(len(x_TD), stride)
    x_GRD = x_TD[: whole * stride].reshape(whole, stride, dim)
    x_GRD += change_GD[:whole, None] * weight_RD
    if rest:
        x_TD[whole * stride :] += change_GD[whole] * weight_RD[:rest]
