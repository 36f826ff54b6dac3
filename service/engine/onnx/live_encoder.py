"""The encoder chunk by chunk: every frame once, the rows of all streams together.

Chunks of streams that are due lie side by side, whatever their plans: products run over all rows,
norms know each row's stride, attention is each stream's own over its keys and values so far.
The front end keeps the inputs that its convolutions read again, so its frames are those of the
whole utterance under the running norm (position p: statistics of 0..p and a prior).

Dimensions: S = samples, N = positions of the first convolution, M = of the second, T = frames,
G = rows of one layer, L = rows in a cache, D = channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from model_store.depth import (
    MAX_STRIDE,
    STRIDES,
    DepthPlan,
    LayerTurn,
    Progress,
    Segment,
    check_look_ahead,
)
from model_store.errors import PlanInvalid
from service.engine.onnx.checkpoint import (
    CONV_STRIDES,
    FRAME_SAMPLES,
    KERNELS,
    RECEPTIVE_SAMPLES,
    Floats,
)
from service.engine.onnx.elastic import give_back, pooled
from service.engine.onnx.encoder import EPSILON, Encoder, StridedWeights
from service.engine.onnx.live_state import EncoderState, FrontEndState, LayerState

PRIOR_POSITIONS = 125
"""Weight of the running norm's prior, in positions of 4 ms: half a second."""

PRIOR_VARIANCE = 0.0038
"""Variance of the first convolution's output over speech; its mean is near 0."""


def samples_of_frames(num_frames: int) -> int:
    """Samples that this many frames from the start read."""
    return FRAME_SAMPLES * (num_frames - 1) + RECEPTIVE_SAMPLES if num_frames else 0


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
        chunk_frames: of a whole chunk; one with fewer is its utterance's last.
    """

    def __init__(self, encoder: Encoder, chunk_frames: int) -> None:
        assert chunk_frames % MAX_STRIDE == 0, "expected whole groups of every stride in a chunk"
        check_look_ahead(encoder.sizes.look_ahead_frames, chunk_frames)
        self._encoder = encoder
        self._sizes = encoder.sizes
        self.chunk_frames = chunk_frames

    def open(self) -> EncoderState:
        """Begin an utterance."""
        layers = [LayerState(self._sizes.dim) for _ in range(self._sizes.encoder_layers)]
        return EncoderState(FrontEndState(), layers, Progress(self._sizes.look_ahead_frames))

    def check(self, plan: DepthPlan, state: EncoderState) -> None:
        """Refuse a plan that this utterance cannot go on with.

        Raises:
            PlanInvalid: it has another number of layers, or skips other layers than the
                utterance's chunks so far.
        """
        self._encoder.check(plan)
        before = state.progress.plan
        if before is not None and _skipped(before) != _skipped(plan):
            raise PlanInvalid(
                f"expected a plan that skips what the utterance's first one does, got {str(plan)!r}"
            )

    def step(self, chunks: Sequence[Chunk]) -> list[Floats]:
        """Encode, in the order given; every plan has passed `check`.

        Returns:
            x_TD of the frames of each stream that became final, before the final norm.
        """
        frames = [self._advance(chunk.state.front_end, chunk.samples_S) for chunk in chunks]
        turns = [
            chunk.state.progress.advance(chunk.plan, len(x_TD), ended=len(x_TD) < self.chunk_frames)
            for chunk, x_TD in zip(chunks, frames, strict=True)
        ]
        return self._run([chunk.state for chunk in chunks], turns, frames)

    def finish(self, states: Sequence[EncoderState]) -> list[Floats]:
        """Give the frames that still wait, x_TD of each stream: none unless its last chunk was whole."""
        nothing_TD = np.zeros((0, self._sizes.dim), np.float32)
        given = [nothing_TD] * len(states)
        places = [place for place, state in enumerate(states) if state.progress.waits]
        waiting = [states[place] for place in places]
        turns = [state.progress.finish() for state in waiting]
        made = self._run(waiting, turns, [nothing_TD] * len(waiting))
        for place, x_TD in zip(places, made, strict=True):
            given[place] = x_TD
        return given

    def _run(
        self,
        states: Sequence[EncoderState],
        turns: Sequence[Sequence[LayerTurn]],
        frames: list[Floats],
    ) -> list[Floats]:
        """Run all layers over frames that follow what each has; give what the last one gives on."""
        for layer in range(self._sizes.encoder_layers if states else 0):
            weights = self._encoder.strided[layer]
            sides = [
                _Side(state.layers[layer], turn[layer], x_TD)
                for state, turn, x_TD in zip(states, turns, frames, strict=True)
            ]
            running = [side for side in sides if side.runs]
            self._hear(layer, weights, [side for side in running if side.turn.heard])
            self._answer(layer, weights, [side for side in running if side.turn.answered])
            frames = [side.give_on() for side in sides]
            self._bypass(layer, [p for p, side in enumerate(sides) if not side.runs], frames)
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

    def _hear(self, layer: int, weights: StridedWeights, sides: "Sequence[_Side]") -> None:
        """Have one layer hear what came in, the rows of all streams side by side."""
        if not sides:
            return
        rows = [side.heard_rows(weights) for side in sides]
        bounds = np.cumsum([0, *map(len, rows)]).tolist()
        half_G = np.concatenate([_half_positions(side.turn.heard) for side in sides])
        index_G = np.concatenate([_stride_index(side.turn.heard) for side in sides])
        heard = self._encoder.hear_rows(layer, np.concatenate(rows), half_G, index_G)
        for side, rows_GD, (start, end) in zip(sides, rows, pairwise(bounds), strict=True):
            side.hear(rows_GD, *(part[start:end] for part in heard))

    def _answer(self, layer: int, weights: StridedWeights, sides: "Sequence[_Side]") -> None:
        """Have one layer answer for what was heard."""
        if not sides:
            return
        asking = [side.ask() for side in sides]
        bounds = np.cumsum([0, *(len(rows_GD) for rows_GD, _ in asking)]).tolist()
        rows_GD = np.concatenate([rows_GD for rows_GD, _ in asking])
        mixed_GD = np.empty_like(rows_GD)
        for side, (_, query_GD), (start, end) in zip(sides, asking, pairwise(bounds), strict=True):
            # All that is heard was said by the time the rows answer, so nothing is masked.
            mixed_GD[start:end] = self._encoder.attended(query_GD, *side.state.store.read())
        index_G = np.concatenate([_stride_index(side.turn.answered) for side in sides])
        made_GD = self._encoder.answer_rows(layer, rows_GD, mixed_GD, index_G)
        for side, (start, end) in zip(sides, pairwise(bounds), strict=True):
            side.change(weights, rows_GD[start:end], made_GD[start:end])

    def _bypass(self, layer: int, skipping: Sequence[int], frames: list[Floats]) -> None:
        if not (skipping and self._sizes.bypass_rank):
            return
        bounds = np.cumsum([0, *(len(frames[place]) for place in skipping)]).tolist()
        made_TD = self._encoder.bypassed(layer, np.concatenate([frames[p] for p in skipping]))
        for place, (start, end) in zip(skipping, pairwise(bounds), strict=True):
            frames[place] = made_TD[start:end]


class _Side:
    """One stream's share of one layer's turn.

    Args:
        state: what the layer keeps of the stream.
        turn: what it hears and answers.
        new_TD: frames that come in.
    """

    def __init__(self, state: LayerState, turn: LayerTurn, new_TD: Floats) -> None:
        self.state = state
        self.turn = turn
        self.runs = not turn.skipped
        self._frames_TD = _joined(state.frames_TD, new_TD)
        self._answered_TD: Floats | None = None

    def heard_rows(self, weights: StridedWeights) -> Floats:
        """Give the rows that are heard, (G, D)."""
        first = self.turn.first_frame
        rows: list[Floats] = []
        for part in self.turn.heard:
            x_ND = self._frames_TD[part.start_frame - first : part.end_frame - first]
            rows.append(x_ND if part.stride == 1 else pooled(x_ND, weights.pool_RD[part.stride]))
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def hear(self, rows_GD: Floats, query_GD: Floats, key_GD: Floats, value_GD: Floats) -> None:
        """Keep what rows say, and what they ask until it is answered."""
        self.state.store.append(key_GD, value_GD)
        self.state.rows_GD = _joined(self.state.rows_GD, rows_GD)
        self.state.query_GD = _joined(self.state.query_GD, query_GD)

    def ask(self) -> tuple[Floats, Floats]:
        """Give the rows that are answered, and what they ask."""
        state, count = self.state, self.turn.answered_rows
        rows_GD, query_GD = state.rows_GD[:count], state.query_GD[:count]
        # Copies, so that what waits does not keep its whole chunk alive.
        state.rows_GD, state.query_GD = state.rows_GD[count:].copy(), state.query_GD[count:].copy()
        return rows_GD, query_GD

    def change(self, weights: StridedWeights, rows_GD: Floats, made_GD: Floats) -> None:
        """Take what became of the rows that are answered."""
        first, row = self.turn.first_frame, 0
        if len(self.turn.answered) == 1 and self.turn.answered[0].stride == 1:
            self._answered_TD = made_GD
            return
        for part in self.turn.answered:
            x_ND = self._frames_TD[part.start_frame - first : part.end_frame - first]
            rows = slice(row, row + part.num_rows)
            row = rows.stop
            if part.stride == 1:
                x_ND[:] = made_GD[rows]
            else:
                give_back(x_ND, made_GD[rows] - rows_GD[rows], weights.give_RD[part.stride])

    def give_on(self) -> Floats:
        """Give the frames that are answered, and keep the others."""
        count = self.turn.num_answered
        self.state.frames_TD = self._frames_TD[count:].copy()
        return self._frames_TD[:count] if self._answered_TD is None else self._answered_TD


def _joined(before: Floats, new: Floats) -> Floats:
    return np.concatenate([before, new]) if len(before) else new


@lru_cache(maxsize=1024)
def _half_positions(parts: tuple[Segment, ...]) -> npt.NDArray[np.int64]:
    """Give the middle of each row's group, in halves of a frame."""
    return np.concatenate(
        [2 * np.arange(p.start_frame, p.end_frame, p.stride) + p.stride - 1 for p in parts]
    )


@lru_cache(maxsize=1024)
def _stride_index(parts: tuple[Segment, ...]) -> npt.NDArray[np.int64]:
    """Give the index into `STRIDES` of each row's stride."""
    return np.repeat([STRIDES.index(p.stride) for p in parts], [p.num_rows for p in parts])


def _skipped(plan: DepthPlan) -> tuple[bool, ...]:
    return tuple(stride == 0 for stride in plan.strides)
