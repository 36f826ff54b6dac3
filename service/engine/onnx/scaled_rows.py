"""How products see the rows they multiply: every row in bytes of its own largest value's share.

Dimensions: D = channels.
"""

from collections.abc import Mapping

import numpy as np

from service.engine.onnx.checkpoint import Floats
from service.engine.onnx.processor import Numerics

LEAST = 1e-9
"""Of a row's largest value, so that rows of zeros stay zeros."""

LARGEST_STEP: Mapping[Numerics, int] = {"int8": 127, "int8-reduced": 63}
"""Of a scaled row; where there is none, rows are multiplied as they are."""


def rounded_row(row_D: Floats, numerics: Numerics) -> Floats:
    """Give a row as a graph's product sees it, with what its bytes round away left out."""
    if numerics == "float32":
        return row_D
    largest = np.maximum(np.abs(row_D).max(), np.float32(LEAST))
    step = np.float32(1 / LARGEST_STEP[numerics])
    return np.rint(row_D / largest / step) * (step * largest)
