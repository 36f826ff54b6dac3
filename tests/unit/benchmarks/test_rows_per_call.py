import numpy as np
import pytest

from benchmarks.rows_per_call import WAYS, call_seconds, copies
from service.engine.onnx.checkpoint import Matrix
from service.engine.onnx.graph import GraphBuilder
from service.engine.onnx.sessions import Graph

INPUTS, OUTPUTS = 96, 40


@pytest.mark.parametrize("way", WAYS)
def test_every_way_multiplies_by_the_same_matrix(way: str) -> None:
    generator = np.random.default_rng(2)
    weights = generator.integers(-127, 128, (OUTPUTS, INPUTS), dtype=np.int8)
    matrix = Matrix(weights, np.linspace(0.001, 0.02, OUTPUTS, dtype=np.float32))
    x = generator.standard_normal((5, INPUTS)).astype(np.float32)
    graph = GraphBuilder("product", "int8")
    graph.output(
        WAYS[way](graph, graph.input("x", ("rows", INPUTS)), matrix), "y", ("rows", OUTPUTS)
    )

    (y,) = Graph(graph.model(), num_threads=1)({"x": x})

    expected = x @ matrix.unpacked().T
    assert np.abs(y - expected).max() < 0.02 * np.abs(expected).max()


def test_a_small_matrix_is_copied_until_it_leaves_the_cache() -> None:
    graphs = copies(WAYS["row by row"], 1024, 2048)

    assert len(graphs) == 3
    assert call_seconds(graphs, 2, 1024, seconds=0.0) > 0
