"""The decoder step: N transcripts, up to U new tokens each, caches held outside.

Cached keys and values are read where they lie; those of the new tokens are given out, and the
caller writes them behind the cached ones. Scores of both stand side by side before the softmax.
New tokens of all transcripts are rows side by side, and products run over them alone; attention
runs over N x U places, where a transcript with fewer tokens than others is filled up:

    rows    a a a b c c           places  a a a     filled  0 1 2     whole  0 1 2 3 6 7
                                          b . .             3 3 3
                                          c c .             4 5 4

Dimensions: N = transcripts, U = most new tokens of one, M = rows, S = rows that are scored,
L = room for cached tokens, P = pooled frames, D = channels, H = heads, K = channels of a head,
R = half of the rotated channels, W = watched heads.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.engine.onnx.checkpoint import Matrix, Sizes, Weights
from service.engine.onnx.decoder import HIDDEN, SCORED, SCORED_ROWS
from service.engine.onnx.encoder_graphs import rotated_by
from service.engine.onnx.graph import FLOAT, INT64, MICROSOFT, GraphBuilder
from service.engine.onnx.processor import Numerics

PIECE = 4160
"""Tokens of the vocabulary that are scored together."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """Values that every layer uses: shapes, angles, masks."""

    by_head: str
    rows: str
    filled: str
    whole: str
    seen_and_new: str
    angles: tuple[str, str, str]
    self_mask: str
    cross_mask: str


def decoder_step(
    sizes: Sizes,
    weights: Weights,
    numerics: Numerics,
    watched: Mapping[int, Sequence[int]],
) -> bytes:
    """Build the step.

    Shapes:
        in: x (M, D) embedded tokens, cos and sin (M, R), place (1, M) = 0, 1, ...,
        filled (N, U) the row of each place, whole (M,) the place of each row, scored (S,) rows,
        self_mask (N, 1, U, L + U) and cross_mask (N, 1, 1, P) added to scores, and by layer
        self_key_I, self_value_I (N, H, L, K), cross_key_I, cross_value_I (N, H, P, K);
        out: token and logprob (S,), other and other_logprob (S,) of the likeliest besides the end
        token, rows (S, D) that the vocabulary is multiplied with, by layer new_key_I, new_value_I
        (N, H, U, K), and weights (N, W, U, P) of the watched heads by rising layer, where any are
        watched.
    """
    graph = GraphBuilder("decoder_step", numerics)
    x = graph.input("x", ("M", sizes.dim))
    scored = graph.input("scored", ("S",), INT64)
    shared = _shared(graph, sizes)
    seen: list[str] = []
    for layer in range(sizes.decoder_layers):
        name = f"decoder.layers.{layer}."
        normed = graph.norm(x, weights.vector(f"{name}attention_norm.weight"))
        x = graph.add(x, _self_attention(graph, normed, weights, sizes, shared, layer))
        normed = graph.norm(x, weights.vector(f"{name}cross_norm.weight"))
        mixed, scores = _cross_attention(graph, normed, weights, sizes, shared, layer)
        x = graph.add(x, mixed)
        if layer in watched:
            seen.append(graph.op("Gather", scores, graph.integers(*watched[layer]), axis=1))
        normed = graph.norm(x, weights.vector(f"{name}mlp_norm.weight"))
        x = graph.add(x, _gated_feed_forward(graph, normed, weights, sizes, name))
    if seen:
        heads = sum(len(watched[layer]) for layer in watched)
        graph.output(graph.op("Concat", *seen, axis=1), "weights", ("N", heads, "U", "P"))
    x = graph.op("Gather", x, scored)
    normed = graph.norm(x, weights.vector("decoder.norm.weight"))
    graph.output(normed, SCORED_ROWS, ("S", sizes.dim))
    found = _likeliest(graph, normed, weights.matrix("decoder.embedding"), sizes.end_token)
    for value, name, kind in zip(found, SCORED, (INT64, FLOAT, INT64, FLOAT), strict=True):
        graph.output(value, name, ("S",), kind)
    return graph.model()


def _shared(graph: GraphBuilder, sizes: Sizes) -> _Shared:
    half = sizes.rotated // 2
    filled = graph.input("filled", ("N", "U"), INT64)
    angles = (
        graph.input("place", (1, "M"), INT64),
        graph.input("cos", ("M", half)),
        graph.input("sin", ("M", half)),
    )
    heads, size = sizes.num_heads, sizes.head_dim
    for layer in range(sizes.decoder_layers):
        for kind, length in (("self", "L"), ("cross", "P")):
            graph.input(f"{kind}_key_{layer}", ("N", heads, length, size))
            graph.input(f"{kind}_value_{layer}", ("N", heads, length, size))
    new = graph.op("Shape", filled, start=1, end=2)
    room = graph.op("Shape", "self_key_0", start=2, end=3)
    return _Shared(
        by_head=graph.op("Concat", graph.op("Shape", filled), graph.integers(heads, size), axis=0),
        rows=graph.integers(-1, sizes.dim),
        filled=filled,
        whole=graph.input("whole", ("M",), INT64),
        seen_and_new=graph.op("Concat", room, new, axis=0),
        angles=angles,
        self_mask=graph.input("self_mask", ("N", 1, "U", "S")),
        cross_mask=graph.input("cross_mask", ("N", 1, 1, "P")),
    )


def _likeliest(
    graph: GraphBuilder, x: str, embedding: Matrix, end_token: int
) -> tuple[str, str, str, str]:
    """Score the vocabulary piece by piece; give what `SCORED` names of each row.

    Pieces stay in the second-level cache from one node to the next. Rows of 32,768 scores, a power
    of two, would fall onto the same few lines of it, where products run at a third of their speed.
    """
    rows, axis = graph.scaled(x), graph.integers(1)
    best: list[tuple[str, str]] = []
    besides: list[tuple[str, str]] = []
    sums: list[str] = []
    for start in range(0, len(embedding.scale_N), PIECE):
        piece = slice(start, start + PIECE)
        matrix = Matrix(embedding.weight_NK[piece], embedding.scale_N[piece])
        scores = graph.product(rows, matrix)
        score, token = graph.split_op("TopK", (scores, axis), 2, axis=1)
        share = graph.op("ReduceMax", graph.op("Softmax", scores, axis=1), axis, keepdims=1)
        sums.append(graph.op("Sub", score, graph.op("Log", share)))
        best.append((score, graph.add(token, graph.integers(start))))
        if start <= end_token < start + len(matrix.scale_N):
            hidden_V = np.zeros(len(matrix.scale_N), np.float32)
            hidden_V[end_token - start] = HIDDEN
            scores = graph.add(scores, graph.constant(hidden_V))
            score, token = graph.split_op("TopK", (scores, axis), 2, axis=1)
        besides.append((score, graph.add(token, graph.integers(start))))
    total = graph.op("ReduceLogSumExp", graph.op("Concat", *sums, axis=1), axis, keepdims=1)
    return (*_best_of(graph, best, total), *_best_of(graph, besides, total))


def _best_of(graph: GraphBuilder, pieces: Sequence[tuple[str, str]], total: str) -> tuple[str, str]:
    """Give token and log probability of the best of each piece's best, given their scores' total."""
    axis = graph.integers(1)
    scores, tokens = zip(*pieces, strict=True)
    score, place = graph.split_op("TopK", (graph.op("Concat", *scores, axis=1), axis), 2, axis=1)
    token = graph.op("GatherElements", graph.op("Concat", *tokens, axis=1), place, axis=1)
    logprob = graph.op("Sub", score, total)
    return graph.op("Squeeze", token, axis), graph.op("Squeeze", logprob, axis)


def _self_attention(
    graph: GraphBuilder, x: str, weights: Weights, sizes: Sizes, shared: _Shared, layer: int
) -> str:
    name = f"decoder.layers.{layer}.attention."
    stored = weights.matrix(f"{name}qkv")
    # Queries are scaled with their weights, so that scores need no scaling of their own.
    scale_N = stored.scale_N.copy()
    scale_N[: sizes.dim] /= math.sqrt(sizes.head_dim)
    qkv = graph.linear(x, Matrix(stored.weight_NK, scale_N))
    parts = rotated_by(graph, qkv, sizes, shared.angles)
    query, key, value = (_by_head(graph, part, shared) for part in parts)
    heads, size = sizes.num_heads, sizes.head_dim
    graph.output(key, f"new_key_{layer}", ("N", heads, "U", size))
    graph.output(value, f"new_value_{layer}", ("N", heads, "U", size))
    seen = _scores(graph, query, f"self_key_{layer}")
    scores = graph.op("Concat", seen, _scores(graph, query, key), axis=3)
    shares = graph.op("Softmax", graph.add(scores, shared.self_mask), axis=3)
    of_seen, of_new = graph.split_op("Split", (shares, shared.seen_and_new), 2, axis=3)
    mixed = graph.add(
        graph.op("MatMul", of_seen, f"self_value_{layer}"), graph.op("MatMul", of_new, value)
    )
    return graph.linear(_joined(graph, mixed, shared), weights.matrix(f"{name}out"))


def _cross_attention(
    graph: GraphBuilder, x: str, weights: Weights, sizes: Sizes, shared: _Shared, layer: int
) -> tuple[str, str]:
    name = f"decoder.layers.{layer}.cross."
    matrix = weights.matrix(f"{name}query")
    scaled = Matrix(matrix.weight_NK, matrix.scale_N / math.sqrt(sizes.head_dim))
    query = _by_head(graph, graph.linear(x, scaled), shared)
    scores = graph.add(_scores(graph, query, f"cross_key_{layer}"), shared.cross_mask)
    shares = graph.op("Softmax", scores, axis=3)
    mixed = graph.op("MatMul", shares, f"cross_value_{layer}")
    return graph.linear(_joined(graph, mixed, shared), weights.matrix(f"{name}out")), shares


def _gated_feed_forward(
    graph: GraphBuilder, x: str, weights: Weights, sizes: Sizes, name: str
) -> str:
    inner = graph.linear(x, weights.matrix(f"{name}up"), weights.vector(f"{name}up.bias"))
    halves = graph.integers(sizes.inner_dim, sizes.inner_dim)
    value, gate = graph.split_op("Split", (inner, halves), 2, axis=1)
    gate = graph.op("QuickGelu", gate, domain=MICROSOFT, alpha=1.0)  # SiLU in one pass
    return graph.linear(
        graph.mul(value, gate), weights.matrix(f"{name}down"), weights.vector(f"{name}down.bias")
    )


def _scores(graph: GraphBuilder, query: str, key: str) -> str:
    return graph.op("FusedMatMul", query, key, domain=MICROSOFT, transB=1)


def _by_head(graph: GraphBuilder, rows: str, shared: _Shared) -> str:
    places = graph.op("Reshape", graph.op("Gather", rows, shared.filled), shared.by_head)
    return graph.op("Transpose", places, perm=[0, 2, 1, 3])


def _joined(graph: GraphBuilder, mixed: str, shared: _Shared) -> str:
    places = graph.op("Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), shared.rows)
    return graph.op("Gather", places, shared.whole)
