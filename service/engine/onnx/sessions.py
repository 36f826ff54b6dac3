"""Running the graphs: arrays in, arrays out, one session each."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.engine.onnx.checkpoint import Floats

Array = npt.NDArray[Any]


class Graph:
    """One graph, loaded.

    Args:
        model: path of an `.onnx` file, or what is in one.
        num_threads: threads one run may use.
    """

    def __init__(self, model: Path | bytes, num_threads: int) -> None:
        # By name: the runtime ships no types. 0.2 s, and only the engine that is loaded needs it.
        runtime: Any = import_module("onnxruntime")
        runtime.disable_telemetry_events()  # what runs here is nobody else's business
        options = runtime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        # A plan of memory is kept for every shape of inputs, and live streams make ever new ones.
        options.enable_mem_pattern = False
        self._session: Any = runtime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            sess_options=options,
            providers=["CPUExecutionProvider"],
        )
        self._outputs: list[str] = [output.name for output in self._session.get_outputs()]

    @property
    def outputs(self) -> Sequence[str]:
        """Names of what the graph gives, in order."""
        return self._outputs

    def __call__(self, inputs: Mapping[str, Array], outputs: Sequence[str] = ()) -> list[Array]:
        """Run, and give the outputs named, or all; arrays are read where they lie."""
        return self._session.run(outputs or self._outputs, inputs)

    def tiled(self, inputs: Mapping[str, Array], shared: Mapping[str, Array], tile: int) -> Array:
        """Run over pieces of rows, and give the one output's rows together.

        Args:
            inputs: arrays of as many rows each.
            shared: what every piece reads from its first row on, such as places.
            tile: rows of a piece: few enough that what lies between nodes stays in the cache.
        """
        return self.tiled_all(inputs, shared, tile)[0]

    def tiled_all(
        self, inputs: Mapping[str, Array], shared: Mapping[str, Array], tile: int
    ) -> list[Array]:
        """Do the same for every output."""
        num_rows = len(next(iter(inputs.values())))
        parts: list[list[Array]] = []
        for start in range(0, num_rows, tile):
            end = min(start + tile, num_rows)
            piece = {name: rows[start:end] for name, rows in inputs.items()}
            piece |= {name: row[:, : end - start] for name, row in shared.items()}
            parts.append(self(piece))
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]


class RotaryTable:
    """Cosines and sines of positions in halves of a frame or token, made as they are asked for.

    Shapes:
        cos, sin: (positions, R), R = half of the rotated channels.
    """

    THETA = 10_000.0

    def __init__(self, rotated: int) -> None:
        exponent_R = np.arange(0, rotated, 2, dtype=np.float32) / np.float32(rotated)
        self._frequency_R = np.float32(self.THETA) ** -exponent_R
        self._cos = self._sin = np.zeros((0, rotated // 2), np.float32)

    def __call__(self, half_position_N: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Give the angles of positions, each counted in halves."""
        most = int(half_position_N.max(initial=0)) + 1
        if most > len(self._cos):
            half_N = np.arange(max(most, 2 * len(self._cos), 256))
            angle_NR = (half_N[:, None] / 2).astype(np.float32) * self._frequency_R
            self._cos, self._sin = np.cos(angle_NR), np.sin(angle_NR)
        return self._cos[half_position_N], self._sin[half_position_N]
