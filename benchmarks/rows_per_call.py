"""Rows a call against time, for each way of multiplying by the model's matrices on this machine.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.rows_per_call > rows.json

A 24-frame chunk at stride 4 is six rows, and a decoder step one, which is far too few for a matrix
product; this says how many are enough. Ways: float32, 8-bit weights in blocks of 32 and 128
(`MatMulNBits`), bytes scaled row by row as the engine does it, and bytes scaled over the whole
call, which is the runtime's own dynamic quantisation and lets a row depend on its neighbours.

Calls go round over as many copies of a matrix as leave the second-level cache, as a model does.
Time is the process's CPU time; of the calls of one size the lowest tenth counts, since on a machine
that is not quiet the rest measures its other work.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import numpy as np

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from service.engine.onnx.checkpoint import Matrix
from service.engine.onnx.graph import MICROSOFT, GraphBuilder
from service.engine.onnx.sessions import Graph

ROWS = (1, 3, 6, 12, 24, 48, 96, 192, 640)
MATRICES = ((416, 1248), (416, 416), (416, 1664), (1664, 416), (416, 3328), (416, 32768))
ROUND_BYTES = 6 * 2**20
FEWEST_CALLS = 8


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.15, help="spent on each figure")
    options = parser.parse_args()
    results: list[Mapping[str, object]] = []
    for inputs, outputs in MATRICES:
        for way, build in WAYS.items():
            graphs = copies(build, inputs, outputs)
            for rows in ROWS:
                call_s = call_seconds(graphs, rows, inputs, options.seconds)
                results.append(
                    {
                        "inputs": inputs,
                        "outputs": outputs,
                        "way": way,
                        "rows": rows,
                        "us_per_call": round(1e6 * call_s, 2),
                        "us_per_row": round(1e6 * call_s / rows, 3),
                        "gop_per_s": round(2e-9 * rows * inputs * outputs / call_s, 1),
                    }
                )
    run = Run(
        benchmark="rows-per-call",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={"threads": 1, "seconds": options.seconds, "statistic": "10th percentile"},
        warm_up=1,
        repeats=FEWEST_CALLS,
    )
    print(json.dumps(document(run, results)))


def float32(graph: GraphBuilder, x: str, matrix: Matrix) -> str:
    """Multiply in float32."""
    return graph.exact_linear(x, matrix)


def row_scaled(graph: GraphBuilder, x: str, matrix: Matrix) -> str:
    """Multiply as the engine does."""
    return graph.linear(x, matrix)


def call_scaled(graph: GraphBuilder, x: str, matrix: Matrix) -> str:
    """Multiply with one scale for all rows of a call."""
    weights = graph.constant(matrix.weight_NK.T), graph.constant(matrix.scale_N)
    return graph.op("DynamicQuantizeMatMul", x, *weights, domain=MICROSOFT)


def in_blocks(block: int) -> Callable[[GraphBuilder, str, Matrix], str]:
    """Multiply with scales for blocks of inputs, of weights and activations."""

    def multiply(graph: GraphBuilder, x: str, matrix: Matrix) -> str:
        outputs, inputs = matrix.weight_NK.shape
        blocks = -(-inputs // block)
        padded = np.zeros((outputs, blocks * block), np.int16)
        padded[:, :inputs] = matrix.weight_NK
        packed = (padded + 128).astype(np.uint8).reshape(outputs, blocks, block)
        return graph.op(
            "MatMulNBits",
            x,
            graph.constant(packed),
            graph.constant(np.repeat(matrix.scale_N, blocks)),
            domain=MICROSOFT,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=block,
            accuracy_level=4,
        )

    return multiply


Way = Callable[[GraphBuilder, str, Matrix], str]
WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "float32": float32,
        "blocks of 32": in_blocks(32),
        "blocks of 128": in_blocks(128),
        "row by row": row_scaled,
        "whole call": call_scaled,
    }
)


def copies(way: Way, inputs: int, outputs: int) -> list[Graph]:
    """Load as many graphs of one matrix as leave the second-level cache."""
    generator = np.random.default_rng(0)
    count = max(1, -(-ROUND_BYTES // (inputs * outputs)))
    loaded: list[Graph] = []
    for _ in range(count):
        weights = generator.integers(-127, 128, (outputs, inputs), dtype=np.int8)
        matrix = Matrix(weights, np.full(outputs, 0.01, np.float32))
        graph = GraphBuilder("product", "int8")
        y = way(graph, graph.input("x", ("rows", inputs)), matrix)
        graph.output(y, "y", ("rows", outputs))
        loaded.append(Graph(graph.model(), num_threads=1))
    return loaded


def call_seconds(graphs: list[Graph], rows: int, inputs: int, seconds: float) -> float:
    """CPU seconds of one call: the lowest tenth of all that fit into the time."""
    x = np.random.default_rng(1).standard_normal((rows, inputs)).astype(np.float32)
    for graph in graphs:
        graph({"x": x})
    spent: list[float] = []
    began = time.monotonic()
    while time.monotonic() - began < seconds or len(spent) < FEWEST_CALLS:
        graph = graphs[len(spent) % len(graphs)]
        started = time.process_time()
        graph({"x": x})
        spent.append(time.process_time() - started)
    return float(np.percentile(spent, 10))


if __name__ == "__main__":
    main()
