"""Whole utterances to the decoder's memory, at any depth plan.

What is linear runs over the rows of all utterances together, in pieces; attention is each one's.

Dimensions: S = samples, N = positions of the first convolution, T = frames, G = rows of a layer,
P = pooled frames, D = channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_store.depth import STRIDES, DepthPlan
from model_store.errors import PlanInvalid
from service.engine.onnx.checkpoint import (
    CONV_STRIDES,
    KERNELS,
    RECEPTIVE_SAMPLES,
    Floats,
    Sizes,
)
from service.engine.onnx.elastic import give_back, pooled
from service.engine.onnx.sessions import Graph, RotaryTable

TILE_ROWS = 144
"""Rows of one run: enough that weights are read seldom, few enough for the second-level cache."""

TILE_FRAMES = 96
"""Frames of one run of the front end, which reads six positions of its first convolution each."""

EPSILON = 1e-5


Attend = Callable[[Floats, Floats, Floats], Floats]
"""Queries, keys and values of rows, (G, D) each, to what attention makes of them."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the decoder sees of one utterance.

    Shapes:
        keys_values: (2C, H, P, K), layer by layer keys, then values.
    """

    states_TD: Floats
    keys_values: Floats


@dataclass(frozen=True, slots=True)
class StridedWeights:
    """Weights of pooling and giving back of one layer, by stride, (R, D) each."""

    pool_RD: dict[int, Floats]
    give_RD: dict[int, Floats]

    @classmethod
    def of_layer(cls, arrays: Mapping[str, Floats], layer: int) -> "StridedWeights":
        """Take those of one layer out of what was built."""
        strides = STRIDES[1:]
        return cls(
            {stride: arrays[f"pool_{layer}_{stride}"] for stride in strides},
            {stride: arrays[f"give_{layer}_{stride}"] for stride in strides},
        )


class Encoder:
    """The encoder's graphs, loaded.

    Args:
        folder: where they were built.
        sizes: of the model.
        arrays: weights of pooling and giving back, as built.
        num_threads: threads one run may use.
    """

    def __init__(
        self, folder: Path, sizes: Sizes, arrays: Mapping[str, Floats], num_threads: int
    ) -> None:
        def graph(name: str) -> Graph:
            return Graph(folder / f"{name}.onnx", num_threads)

        layers = range(sizes.encoder_layers)
        self.sizes = sizes
        self.strided = [StridedWeights.of_layer(arrays, layer) for layer in layers]
        self._front_end_in, self._front_end_out = graph("front_end_in"), graph("front_end_out")
        self._attention = graph("attention")
        self._layer_in = [graph(f"layer_{layer}_in") for layer in layers]
        self._layer_out = [graph(f"layer_{layer}_out") for layer in layers]
        self._bypass = [graph(f"bypass_{layer}") for layer in layers if sizes.bypass_rank]
        self._memory = graph("memory")
        self._rotary = RotaryTable(sizes.rotated)
        self._place = np.arange(TILE_ROWS, dtype=np.int64)[None]

    def encode(self, utterances: Sequence[Floats], plan: DepthPlan) -> list[Memory]:
        """Encode utterances with full context.

        Args:
            utterances: samples in [-1, 1] at 16 kHz; shorter than one frame is completed by silence.
            plan: stride of each layer.

        Raises:
            PlanInvalid: the plan is of another number of layers.
        """
        self.check(plan)
        frames = [self._front_end(samples) for samples in utterances]
        bounds = np.cumsum([0, *map(len, frames)]).tolist()
        x_TD = np.concatenate(frames)
        for layer, stride in enumerate(plan.strides):
            x_TD = self._layer(x_TD, bounds, layer, stride)
        return [self.remembered(x_TD[start:end]) for start, end in pairwise(bounds)]

    def check(self, plan: DepthPlan) -> None:
        """Refuse a plan of another number of layers.

        Raises:
            PlanInvalid: it is.
        """
        if plan.num_layers != self.sizes.encoder_layers:
            raise PlanInvalid(
                f"expected {self.sizes.encoder_layers} strides, got {plan.num_layers}"
            )

    def _front_end(self, samples_S: Floats) -> Floats:
        missing = max(0, RECEPTIVE_SAMPLES - len(samples_S))
        samples_S = np.pad(samples_S.astype(np.float32, copy=False), (0, missing))
        windows = np.lib.stride_tricks.sliding_window_view(samples_S, KERNELS[0])
        y_ND, sum_N, square_N = self.first(windows[:: CONV_STRIDES[0]])
        count = y_ND.size
        mean = sum_N.sum(dtype=np.float64) / count
        variance = square_N.sum(dtype=np.float64) / count - mean**2
        mean_N1 = np.full((len(y_ND), 1), mean, np.float32)
        rate_N1 = np.full((len(y_ND), 1), (variance + EPSILON) ** -0.5, np.float32)
        return self.convolved(y_ND, mean_N1, rate_N1, self.sizes.num_frames(len(samples_S)))

    def first(self, windows_NK: Floats) -> tuple[Floats, Floats, Floats]:
        """Run the first convolution over its windows, (N, 127).

        Shapes:
            out: y_ND, and the sums of each position's channels and of their squares, (N,).
        """
        tile = TILE_FRAMES * CONV_STRIDES[1] * CONV_STRIDES[2]
        parts = [
            self._front_end_in({"windows": np.ascontiguousarray(windows_NK[start : start + tile])})
            for start in range(0, len(windows_NK), tile)
        ]
        y_ND, sum_N, square_N = (np.concatenate(part) for part in zip(*parts, strict=True))
        return y_ND, sum_N, square_N

    def convolved(self, y_ND: Floats, mean_N1: Floats, rate_N1: Floats, num_frames: int) -> Floats:
        """Run second and third convolution over positions that give `num_frames` frames."""
        parts: list[Floats] = []
        for start in range(0, num_frames, TILE_FRAMES):
            frames = min(TILE_FRAMES, num_frames - start)
            second = windows_of(
                (frames - 1) * CONV_STRIDES[2] + KERNELS[2], KERNELS[1], CONV_STRIDES[1]
            )
            first = start * CONV_STRIDES[1] * CONV_STRIDES[2]
            last = first + int(second[-1, -1]) + 1
            inputs = {
                "y": y_ND[first:last],
                "mean": mean_N1[first:last],
                "rate": rate_N1[first:last],
                "second": second,
                "third": windows_of(frames, KERNELS[2], CONV_STRIDES[2]),
            }
            parts.append(self._front_end_out(inputs)[0])
        return np.concatenate(parts)

    def _layer(self, x_TD: Floats, bounds: Sequence[int], layer: int, stride: int) -> Floats:
        """Run one layer over the frames of all utterances, which lie between the bounds."""
        if stride == 0:
            return self.bypassed(layer, x_TD)
        if stride == 1:
            return self._rows(x_TD, bounds, layer, stride)
        weights = self.strided[layer]
        spans = list(pairwise(bounds))
        parts = [pooled(x_TD[start:end], weights.pool_RD[stride]) for start, end in spans]
        row_bounds = np.cumsum([0, *map(len, parts)]).tolist()
        rows_GD = np.concatenate(parts)
        change_GD = self._rows(rows_GD, row_bounds, layer, stride)
        change_GD -= rows_GD
        for (start, end), (first, last) in zip(spans, pairwise(row_bounds), strict=True):
            give_back(x_TD[start:end], change_GD[first:last], weights.give_RD[stride])
        return x_TD

    def _rows(self, x_GD: Floats, bounds: Sequence[int], layer: int, stride: int) -> Floats:
        half_G = np.concatenate(
            [np.arange(end - start) * (2 * stride) for start, end in pairwise(bounds)]
        )
        index_G = np.full(len(x_GD), STRIDES.index(stride))

        def attend(query_GD: Floats, key_GD: Floats, value_GD: Floats) -> Floats:
            mixed_GD = np.empty_like(query_GD)
            for start, end in pairwise(bounds):
                mixed_GD[start:end] = self.attended(
                    query_GD[start:end], key_GD[None, start:end], value_GD[None, start:end]
                )
            return mixed_GD

        return self.run_rows(layer, x_GD, half_G + (stride - 1), index_G, attend)

    def run_rows(
        self,
        layer: int,
        x_GD: Floats,
        half_position_G: npt.NDArray[np.int64],
        stride_index_G: npt.NDArray[np.int64],
        attend: Attend,
    ) -> Floats:
        """Run one layer over rows of any utterances and strides.

        Args:
            layer: which.
            x_GD: rows side by side.
            half_position_G: middle of each row's group, in halves of a frame.
            stride_index_G: index into `STRIDES` of each row's stride.
            attend: mixes values for queries; knows whose rows are whose.
        """
        parts = self.hear_rows(layer, x_GD, half_position_G, stride_index_G)
        return self.answer_rows(layer, x_GD, attend(*parts), stride_index_G)

    def hear_rows(
        self,
        layer: int,
        x_GD: Floats,
        half_position_G: npt.NDArray[np.int64],
        stride_index_G: npt.NDArray[np.int64],
    ) -> Sequence[Floats]:
        """Give queries, keys and values of rows, (G, D) each; the first half of `run_rows`."""
        cos_GR, sin_GR = self._rotary(half_position_G)
        rows = {"x": x_GD, "stride_index": stride_index_G, "cos": cos_GR, "sin": sin_GR}
        return self._layer_in[layer].tiled_all(rows, {"place": self._place}, TILE_ROWS)

    def answer_rows(
        self,
        layer: int,
        x_GD: Floats,
        mixed_GD: Floats,
        stride_index_G: npt.NDArray[np.int64],
    ) -> Floats:
        """Run the rest of one layer over rows whose queries have been answered."""
        rows = {"x": x_GD, "mixed": mixed_GD, "stride_index": stride_index_G}
        return self._layer_out[layer].tiled(rows, {}, TILE_ROWS)

    def attended(self, query_GD: Floats, key_1LD: Floats, value_1LD: Floats) -> Floats:
        """Attend with the rows of one utterance to all of the keys given."""
        return self._attention({"query": query_GD[None], "key": key_1LD, "value": value_1LD})[0][0]

    def bypassed(self, layer: int, x_TD: Floats) -> Floats:
        """Run what stands in for a skipped layer."""
        return self._bypass[layer].tiled({"x": x_TD}, {}, TILE_ROWS) if self._bypass else x_TD

    def remembered(self, x_TD: Floats) -> Memory:
        """Pool frames and project what the decoder attends to; the last group repeats its last."""
        pool = self.sizes.memory_pool
        group = np.arange(-(-len(x_TD) // pool) * pool).clip(max=len(x_TD) - 1).reshape(-1, pool)
        states_TD, keys_values = self._memory({"x": x_TD, "group": group})
        return Memory(states_TD, keys_values)


def windows_of(places: int, kernel: int, stride: int) -> npt.NDArray[np.int64]:
    """Give the inputs that each place of a convolution reads, (places, kernel)."""
    return np.arange(places)[:, None] * stride + np.arange(kernel)
