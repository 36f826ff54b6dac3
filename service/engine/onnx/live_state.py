"""What the chunk-by-chunk encoder keeps of a stream between two chunks.

Dimensions: S = samples, N = positions of the first convolution, T = frames, G = rows of one layer,
L = rows in a cache, D = channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from model_store.depth import DepthPlan, LayerTurn, Progress
from service.engine.onnx.checkpoint import Floats
from service.engine.onnx.rooms import widened

BLOCK_ROWS = 64
"""Rows that a cache grows by."""


class RowStore:
    """Keys and values of one layer of one stream, in room that grows by blocks; (2, L, D)."""

    def __init__(self, dim: int) -> None:
        self._room = np.zeros((2, 0, dim), np.float32)
        self.num_rows = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the room, whether used or not."""
        return self._room.nbytes

    def append(self, key_GD: Floats, value_GD: Floats) -> None:
        """Add rows behind the last one."""
        end = self.num_rows + len(key_GD)
        missing = end - self._room.shape[1]
        if missing > 0:
            rows = -(-missing // BLOCK_ROWS) * BLOCK_ROWS
            self._room = widened(self._room, 1, rows)
        self._room[0, self.num_rows : end] = key_GD
        self._room[1, self.num_rows : end] = value_GD
        self.num_rows = end

    def read(self) -> tuple[Floats, Floats]:
        """Give keys and values of all rows where they lie, (1, L, D) each."""
        return self._room[:1, : self.num_rows], self._room[1:, : self.num_rows]


@dataclass(slots=True)
class FrontEndState:
    """What one stream's front end keeps between two chunks.

    Args:
        samples_S: that the first convolution reads again.
        first_ND, mean_N1, rate_N1: its outputs that the second reads again, and their norm's.
        seen, total, square: positions so far, sums of their means and mean squares.
    """

    num_frames: int = 0
    samples_S: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    first_ND: Floats | None = None
    mean_N1: Floats | None = None
    rate_N1: Floats | None = None
    seen: int = 0
    total: float = 0.0
    square: float = 0.0

    @property
    def num_bytes(self) -> int:
        """Bytes of the tails."""
        tails = (self.samples_S, self.first_ND, self.mean_N1, self.rate_N1)
        return sum(tail.nbytes for tail in tails if tail is not None)


class LayerState:
    """What one layer of one stream keeps.

    Args:
        dim: channels.

    Attributes:
        store: keys and values of what it heard; empty for a skipped layer.
        frames_TD: which came in and are not answered yet.
        rows_GD, query_GD: rows of them that were heard already, and what they ask.
    """

    def __init__(self, dim: int) -> None:
        nothing = np.zeros((0, dim), np.float32)
        self.store = RowStore(dim)
        self.frames_TD = self.rows_GD = self.query_GD = nothing

    @property
    def num_rows(self) -> int:
        """Rows heard."""
        return self.store.num_rows

    @property
    def num_bytes(self) -> int:
        """Bytes of all that is kept."""
        waiting = (self.frames_TD, self.rows_GD, self.query_GD)
        return self.store.num_bytes + sum(part.nbytes for part in waiting)


@dataclass(slots=True)
class EncoderState:
    """What one stream's encoder keeps.

    Args:
        front_end: tails and sums.
        layers: what each keeps.
        progress: how far each has come.
    """

    front_end: FrontEndState
    layers: list[LayerState]
    progress: Progress

    @property
    def num_final_frames(self) -> int:
        """Frames that no later audio changes: all that the last layer gave on."""
        return self.progress.num_final_frames

    @property
    def num_bytes(self) -> int:
        """Bytes of caches and tails."""
        return self.front_end.num_bytes + sum(layer.num_bytes for layer in self.layers)

    @property
    def waits(self) -> bool:
        """Whether frames wait for the next chunk."""
        return self.progress.waits

    def turns(self, plan: DepthPlan, num_frames: int, *, ended: bool) -> Sequence[LayerTurn]:
        """Say what each layer would do with a chunk, or with the end; see `depth.Progress`."""
        return self.progress.turns(plan, num_frames, ended=ended)
