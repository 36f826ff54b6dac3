"""Room for keys and values: what grows with an utterance, and what every step writes anew."""

import math

import numpy as np

from service.engine.onnx.checkpoint import Floats

BLOCK_ROWS = 16
"""Rows that room grows by. Sums over whole blocks are added up in the same order however many zeros lie
behind, so that what is written hardly depends on whose room is the widest (it once moved a comma); and runs have few shapes."""


def whole_blocks(num_rows: int) -> int:
    """Round up to whole blocks."""
    return -(-num_rows // BLOCK_ROWS) * BLOCK_ROWS


def widened(room: Floats, axis: int, num_rows: int) -> Floats:
    """Give room for more rows behind those there are, zeros in it.

    As `numpy.pad`, which takes several times as long over arrays of this size.
    """
    wider = np.zeros(
        (*room.shape[:axis], room.shape[axis] + num_rows, *room.shape[axis + 1 :]), room.dtype
    )
    wider[(*(slice(None),) * axis, slice(room.shape[axis]))] = room
    return wider


class Scratch:
    """Memory that every step fills anew: pages that are there already take a third of the time.

    Args:
        most_bytes: kept between steps; what is larger is made for its step alone.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_floats = most_bytes // np.dtype(np.float32).itemsize
        self._kept = np.zeros(0, np.float32)

    def array(self, shape: tuple[int, ...]) -> Floats:
        """Give an array of any content, but of numbers; it holds until the next one is asked for."""
        size = math.prod(shape)
        if size > self._most_floats:
            return np.zeros(shape, np.float32)
        if size > len(self._kept):
            self._kept = np.zeros(min(self._most_floats, 2 * size), np.float32)
        return self._kept[:size].reshape(shape)
