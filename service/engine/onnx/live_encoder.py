"""The encoder chunk by chunk: every frame once, the rows of all streams together.

Chunks of streams that are due lie side by side, whatever their plans: products run over all rows,
norms know each row's stride, attention is each stream's own over its keys and values so far.
The front end keeps the inputs that its convolutions read again, so its frames are those of the
whole utterance under the running norm (position p: statistics of 0..p and a prior).

Dimensions: S = samples, N = positions of the first convolution, M = of the second, T = frames,
G = rows of one layer, L = rows in a cache, D = channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from model_store.depth import MAX_STRIDE, STRIDES, DepthPlan
from model_store.errors import PlanInvalid
from service.engine.onnx.checkpoint import (
    CONV_STRIDES,
    FRAME_SAMPLES,
    KERNELS,
    RECEPTIVE_SAMPLES,
    Floats,
)
from service.engine.onnx.elastic import give_back, pooled
from service.engine.onnx.encoder import EPSILON, Encoder
from service.engine.onnx.rooms import widened

PRIOR_POSITIONS = 125
"""Weight of the running norm's prior, in positions of 4 ms: half a second."""

PRIOR_VARIANCE = 0.0038
"""Variance of the first convolution's output over speech; its mean is near 0."""

BLOCK_ROWS = 64
"""Rows that a cache grows by."""


def samples_of_frames(num_frames: int) -> int:
    """Samples that this many frames from the start read."""
    return FRAME_SAMPLES * (num_frames - 1) + RECEPTIVE_SAMPLES if num_frames else 0


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


@dataclass(slots=True)
class EncoderState:
    """What one stream's encoder keeps.

    Args:
        front_end: tails and sums.
        layers: keys and values; empty for a skipped layer.
        skipped: which layers the utterance's plans skip; None before its first chunk.
    """

    front_end: FrontEndState
    layers: list[RowStore]
    skipped: tuple[bool, ...] | None = None

    @property
    def num_final_frames(self) -> int:
        """Frames that no later audio changes: all that were made."""
        return self.front_end.num_frames

    @property
    def num_bytes(self) -> int:
        """Bytes of caches and tails."""
        return self.front_end.num_bytes + sum(store.num_bytes for store in self.layers)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """One stream's share of a step.

    Args:
        state: of its utterance.
        samples_S: as many as its next frames need further; see `samples_of_frames`.
        plan: stride of every layer.
    """

    state: EncoderState
    samples_S: Floats
    plan: DepthPlan


class LiveEncoder:
    """Runs one chunk of every stream that is due.

    Args:
        encoder: the model's graphs.
        chunk_frames: of a whole chunk; the last one of an utterance may have fewer.
    """

    def __init__(self, encoder: Encoder, chunk_frames: int) -> None:
        assert chunk_frames % MAX_STRIDE == 0, "expected whole groups of every stride in a chunk"
        self._encoder = encoder
        self._sizes = encoder.sizes
        self.chunk_frames = chunk_frames

    def open(self) -> EncoderState:
        """Begin an utterance."""
        layers = [RowStore(self._sizes.dim) for _ in range(self._sizes.encoder_layers)]
        return EncoderState(FrontEndState(), layers)

    def check(self, plan: DepthPlan, state: EncoderState) -> None:
        """Refuse a plan that this utterance cannot go on with.

        Raises:
            PlanInvalid: it has another number of layers, or skips other layers than the
                utterance's chunks so far.
        """
        self._encoder.check(plan)
        if state.skipped not in {None, _skipped(plan)}:
            raise PlanInvalid(
                f"expected a plan that skips what the utterance's first one does, got {str(plan)!r}"
            )

    def step(self, chunks: Sequence[Chunk]) -> list[Floats]:
        """Encode, in the order given; every plan has passed `check`.

        Returns:
            x_TD of each chunk's frames, before the final norm.
        """
        first_frames = [chunk.state.front_end.num_frames for chunk in chunks]
        frames = [self._advance(chunk.state.front_end, chunk.samples_S) for chunk in chunks]
        for chunk in chunks:
            chunk.state.skipped = _skipped(chunk.plan)
        for layer in range(self._sizes.encoder_layers):
            self._layer(layer, chunks, frames, first_frames)
        return frames

    def _advance(self, state: FrontEndState, new_S: Floats) -> Floats:
        """Make the frames that further samples complete."""
        samples_S = np.concatenate([state.samples_S, new_S])
        windows = np.lib.stride_tricks.sliding_window_view(samples_S, KERNELS[0])
        windows = np.ascontiguousarray(windows[:: CONV_STRIDES[0]])
        first_ND, mean_N1, rate_N1 = self._normed(state, windows)
        state.samples_S = samples_S[len(windows) * CONV_STRIDES[0] :].copy()
        if state.first_ND is not None:
            assert state.mean_N1 is not None, "tails are kept together"
            assert state.rate_N1 is not None, "tails are kept together"
            first_ND = np.concatenate([state.first_ND, first_ND])
            mean_N1 = np.concatenate([state.mean_N1, mean_N1])
            rate_N1 = np.concatenate([state.rate_N1, rate_N1])
        places = (len(first_ND) - KERNELS[1]) // CONV_STRIDES[1] + 1
        frames = (places - KERNELS[2]) // CONV_STRIDES[2] + 1
        x_TD = self._encoder.convolved(first_ND, mean_N1, rate_N1, frames)
        # The last frame's second and third place are read again by the next one's first.
        used = frames * CONV_STRIDES[1] * CONV_STRIDES[2]
        state.first_ND, state.mean_N1, state.rate_N1 = (
            part[used:].copy() for part in (first_ND, mean_N1, rate_N1)
        )
        state.num_frames += frames
        return x_TD

    def _normed(self, state: FrontEndState, windows: Floats) -> tuple[Floats, Floats, Floats]:
        """Run the first convolution and give its outputs with each position's norm."""
        y_ND, sum_N, square_N = self._encoder.first(windows)
        total_N = state.total + np.cumsum(sum_N / y_ND.shape[1], dtype=np.float64)
        squares_N = state.square + np.cumsum(square_N / y_ND.shape[1], dtype=np.float64)
        seen_N = state.seen + np.arange(1, len(y_ND) + 1) + PRIOR_POSITIONS
        state.seen += len(y_ND)
        state.total, state.square = float(total_N[-1]), float(squares_N[-1])
        mean_N = total_N / seen_N
        variance_N = (squares_N + PRIOR_POSITIONS * PRIOR_VARIANCE) / seen_N - mean_N**2
        rate_N = (variance_N + EPSILON) ** -0.5
        return y_ND, mean_N[:, None].astype(np.float32), rate_N[:, None].astype(np.float32)

    def _layer(
        self,
        layer: int,
        chunks: Sequence[Chunk],
        frames: list[Floats],
        first_frames: Sequence[int],
    ) -> None:
        """Run one layer over all chunks, in place."""
        running = [place for place, chunk in enumerate(chunks) if chunk.plan.strides[layer]]
        skipping = [place for place, chunk in enumerate(chunks) if not chunk.plan.strides[layer]]
        self._bypass(layer, skipping, frames)
        if not running:
            return
        strides = [chunks[place].plan.strides[layer] for place in running]
        weights = self._encoder.strided[layer]
        rows = [
            frames[place] if stride == 1 else pooled(frames[place], weights.pool_RD[stride])
            for place, stride in zip(running, strides, strict=True)
        ]
        half = [
            2 * first_frames[place] + (stride - 1) + 2 * stride * np.arange(len(part))
            for place, stride, part in zip(running, strides, rows, strict=True)
        ]
        bounds = np.cumsum([0, *map(len, rows)]).tolist()
        index_G = np.repeat([STRIDES.index(stride) for stride in strides], np.diff(bounds))
        stores = [chunks[place].state.layers[layer] for place in running]

        def attend(query_GD: Floats, key_GD: Floats, value_GD: Floats) -> Floats:
            mixed_GD = np.empty_like(query_GD)
            for (start, end), store in zip(pairwise(bounds), stores, strict=True):
                store.append(key_GD[start:end], value_GD[start:end])
                # All of a chunk sees all of the chunk and all before it, so nothing is masked.
                mixed_GD[start:end] = self._encoder.attended(query_GD[start:end], *store.read())
            return mixed_GD

        rows_GD = np.concatenate(rows)
        made_GD = self._encoder.run_rows(layer, rows_GD, np.concatenate(half), index_G, attend)
        for (start, end), place, stride in zip(pairwise(bounds), running, strides, strict=True):
            if stride == 1:
                frames[place] = made_GD[start:end]
                continue
            change_GD = made_GD[start:end] - rows_GD[start:end]
            give_back(frames[place], change_GD, weights.give_RD[stride])

    def _bypass(self, layer: int, skipping: Sequence[int], frames: list[Floats]) -> None:
        if not (skipping and self._sizes.bypass_rank):
            return
        bounds = np.cumsum([0, *(len(frames[place]) for place in skipping)]).tolist()
        made_TD = self._encoder.bypassed(layer, np.concatenate([frames[p] for p in skipping]))
        for place, (start, end) in zip(skipping, pairwise(bounds), strict=True):
            frames[place] = made_TD[start:end]


def _skipped(plan: DepthPlan) -> tuple[bool, ...]:
    return tuple(stride == 0 for stride in plan.strides)
