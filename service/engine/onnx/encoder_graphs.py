"""The encoder's graphs: what runs over the rows of all utterances, and one utterance's attention.

    samples --front_end_in--> y --statistics: numpy--> front_end_out --> frames
    frames --layer_I_in--> q, k, v --attention, per utterance--> layer_I_out --> frames
    frames --memory--> the decoder's keys and values

Dimensions: N = positions of the first convolution, G = rows of one layer, T = frames, L = keys,
P = pooled frames, D = channels, R = half of the rotated channels, C = decoder layers, H = heads.
"""

from collections.abc import Iterator

import numpy as np

from service.engine.onnx.checkpoint import KERNELS, Matrix, Sizes, Weights
from service.engine.onnx.graph import INT64, MICROSOFT, GraphBuilder
from service.engine.onnx.processor import Numerics


def encoder_graphs(
    sizes: Sizes, weights: Weights, numerics: Numerics
) -> Iterator[tuple[str, bytes]]:
    """Build every graph of the encoder, by name."""
    yield "front_end_in", front_end_in(sizes, weights)
    yield "front_end_out", front_end_out(sizes, weights, numerics)
    yield "attention", attention(sizes)
    for layer in range(sizes.encoder_layers):
        yield f"layer_{layer}_in", layer_in(sizes, weights, numerics, layer)
        yield f"layer_{layer}_out", layer_out(sizes, weights, numerics, layer)
        if sizes.bypass_rank:
            yield f"bypass_{layer}", bypass(sizes, weights, numerics, layer)
    yield "memory", memory(sizes, weights, numerics)


def front_end_in(sizes: Sizes, weights: Weights) -> bytes:
    """Build the first convolution, in float32 always: its input is raw audio.

    Shapes:
        in: windows (N, 127); out: y (N, D), sum (N,), square (N,) over channels.
    """
    graph = GraphBuilder("front_end_in", "float32")
    windows = graph.input("windows", ("N", KERNELS[0]))
    y = graph.op("Tanh", graph.exact_linear(windows, weights.matrix("encoder.front_end.conv1")))
    graph.output(y, "y", ("N", sizes.dim))
    axis = graph.integers(1)
    graph.output(graph.op("ReduceSum", y, axis, keepdims=0), "sum", ("N",))
    graph.output(graph.op("ReduceSumSquare", y, axis, keepdims=0), "square", ("N",))
    return graph.model()


def front_end_out(sizes: Sizes, weights: Weights, numerics: Numerics) -> bytes:
    """Build normalisation, second and third convolution.

    Shapes:
        in: y (N, D), mean and rate (N, 1), second (G, 7) and third (T, 3), the positions that a
        place of the next convolution reads; out: x (T, D).
    """
    name, dim = "encoder.front_end.", sizes.dim
    graph = GraphBuilder("front_end_out", numerics)
    y = graph.input("y", ("N", dim))
    mean, rate = graph.input("mean", ("N", 1)), graph.input("rate", ("N", 1))
    second = graph.input("second", ("G", KERNELS[1]), INT64)
    third = graph.input("third", ("T", KERNELS[2]), INT64)
    y = graph.mul(graph.op("Sub", y, mean), rate)
    y = graph.mul(y, graph.constant(weights.vector(f"{name}norm_weight_D")))
    y = graph.add(y, graph.constant(weights.vector(f"{name}norm_bias_D")))
    y = graph.op("Reshape", graph.op("Gather", y, second), graph.integers(-1, KERNELS[1] * dim))
    if sizes.front_end_rank:
        y = graph.linear(y, weights.matrix(f"{name}conv2_in"))
    y = graph.linear(y, weights.matrix(f"{name}conv2"), weights.vector(f"{name}conv2.bias"))
    y = graph.op("Gather", graph.gelu(y), third)
    y = graph.op("Reshape", y, graph.integers(-1, KERNELS[2] * 2 * dim))
    third_kernel = weights.matrix(f"{name}conv3")
    y = graph.linear_of_gelu(y, third_kernel, weights.vector(f"{name}conv3.bias"))
    graph.output(graph.gelu(y), "x", ("T", dim))
    return graph.model()


def attention(sizes: Sizes) -> bytes:
    """Build one utterance's attention of rows to keys; no mask, since all keys given are seen."""
    graph = GraphBuilder("attention", "float32")
    query = graph.input("query", (1, "G", sizes.dim))
    key, value = (graph.input(name, (1, "L", sizes.dim)) for name in ("key", "value"))
    mixed = graph.op(
        "MultiHeadAttention", query, key, value, domain=MICROSOFT, num_heads=sizes.num_heads
    )
    graph.output(mixed, "mixed", (1, "G", sizes.dim))
    return graph.model()


def layer_in(sizes: Sizes, weights: Weights, numerics: Numerics, layer: int) -> bytes:
    """Build a layer up to its queries, keys and values, rotated.

    Shapes:
        in: x (G, D), stride_index (G,), place (1, G) = 0, 1, ..., cos and sin (G, R);
        out: query, key, value (G, D).
    """
    name, dim = f"encoder.stack.layers.{layer}.block.", sizes.dim
    graph = GraphBuilder(f"layer_{layer}_in", numerics)
    x = graph.input("x", ("G", dim))
    normed, matrix = _strided_norm(
        graph, x, weights, f"{name}attention_norm", f"{name}attention.qkv"
    )
    qkv = graph.linear(normed, matrix)
    query, key, value = rotated(graph, qkv, sizes)
    for part, label in ((query, "query"), (key, "key"), (value, "value")):
        graph.output(part, label, ("G", dim))
    return graph.model()


def rotated(graph: GraphBuilder, qkv: str, sizes: Sizes) -> list[str]:
    """Split into queries, keys and values, and rotate the first two by inputs it declares."""
    half = sizes.rotated // 2
    cos, sin = (graph.input(name, ("rows", half)) for name in ("cos", "sin"))
    place = graph.input("place", (1, "rows"), INT64)
    return rotated_by(graph, qkv, sizes, (place, cos, sin))


def rotated_by(
    graph: GraphBuilder, qkv: str, sizes: Sizes, angles: tuple[str, str, str]
) -> list[str]:
    """Split into queries, keys and values, and rotate the first two."""
    dim = sizes.dim
    both, value = graph.split_op("Split", (qkv, graph.integers(2 * dim, dim)), 2, axis=1)
    both = graph.op(
        "RotaryEmbedding",
        graph.op("Unsqueeze", both, graph.integers(0)),
        *angles,
        domain=MICROSOFT,
        interleaved=1,
        num_heads=2 * sizes.num_heads,
        rotary_embedding_dim=sizes.rotated,
    )
    both = graph.op("Squeeze", both, graph.integers(0))
    return [*graph.split_op("Split", (both, graph.integers(dim, dim)), 2, axis=1), value]


def layer_out(sizes: Sizes, weights: Weights, numerics: Numerics, layer: int) -> bytes:
    """Build a layer from its attention's result to its output.

    Shapes:
        in: x and mixed (G, D), stride_index (G,); out: y (G, D).
    """
    name, dim = f"encoder.stack.layers.{layer}.block.", sizes.dim
    graph = GraphBuilder(f"layer_{layer}_out", numerics)
    x, mixed = graph.input("x", ("G", dim)), graph.input("mixed", ("G", dim))
    x = graph.add(x, graph.linear(mixed, weights.matrix(f"{name}attention.out")))
    normed, first = _strided_norm(graph, x, weights, f"{name}mlp_norm", f"{name}up")
    inner = graph.gelu(graph.linear(normed, first, weights.vector(f"{name}up.bias")))
    y = graph.add(x, _linear_of_gelu(graph, inner, weights, f"{name}down"))
    graph.output(y, "y", ("G", dim))
    return graph.model()


def bypass(sizes: Sizes, weights: Weights, numerics: Numerics, layer: int) -> bytes:
    """Build what stands in for a skipped layer; x (T, D) -> y (T, D)."""
    name = f"encoder.stack.layers.{layer}.bypass."
    graph = GraphBuilder(f"bypass_{layer}", numerics)
    x = graph.input("x", ("T", sizes.dim))
    normed = graph.norm(x, weights.vector(f"{name}norm.weight"))
    down = weights.matrix(f"{name}down")
    inner = graph.gelu(graph.linear(normed, down, weights.vector(f"{name}down.bias")))
    y = graph.add(x, _linear_of_gelu(graph, inner, weights, f"{name}up"))
    graph.output(y, "y", ("T", sizes.dim))
    return graph.model()


def memory(sizes: Sizes, weights: Weights, numerics: Numerics) -> bytes:
    """Build final norm, pooling, and the keys and values of every decoder layer at once.

    Shapes:
        in: x (T, D), group (P, pool), the frames that a pooled one is made of;
        out: states (T, D), keys_values (2C, H, P, K): layer by layer keys, then values.
    """
    dim, layers = sizes.dim, sizes.decoder_layers
    graph = GraphBuilder("memory", numerics)
    x = graph.input("x", ("T", dim))
    group = graph.input("group", ("P", sizes.memory_pool), INT64)
    states = graph.norm(x, weights.vector("encoder.norm.weight"))
    graph.output(states, "states", ("T", dim))
    pooled = graph.op("Gather", states, group)
    if sizes.memory_pool > 1:
        pooled = graph.mul(pooled, graph.constant(weights.vector("decoder.pool_RD")))
    pooled = graph.op("ReduceSum", pooled, graph.integers(1), keepdims=0)
    every = Matrix.stack([weights.matrix(f"decoder.layers.{i}.cross.kv") for i in range(layers)])
    pairs = graph.linear(pooled, every)
    shape = graph.integers(-1, 2 * layers, sizes.num_heads, sizes.head_dim)
    pairs = graph.op("Transpose", graph.op("Reshape", pairs, shape), perm=[1, 2, 0, 3])
    graph.output(pairs, "keys_values", (2 * layers, sizes.num_heads, "P", sizes.head_dim))
    return graph.model()


def _strided_norm(
    graph: GraphBuilder, x: str, weights: Weights, norm: str, product: str
) -> tuple[str, Matrix]:
    """Add the LayerNorm before a product; give its rows and the product's matrix.

    Both are balanced where bytes are multiplied: what is large in a few channels alone would leave
    the others few bytes.
    """
    if "stride_index" not in graph.input_names:
        graph.input("stride_index", ("G",), INT64)
    weight_SD, matrix = weights.vector(f"{norm}.weight_SD"), weights.matrix(product)
    if graph.numerics != "float32":
        divisor_D = weights.balance(product)
        weight_SD, matrix = weight_SD / divisor_D, matrix.times(divisor_D)
    ones_D = np.ones(weight_SD.shape[1], np.float32)
    weight_GD = graph.op("Gather", graph.constant(weight_SD), "stride_index")
    return graph.mul(graph.norm(x, ones_D), weight_GD), matrix


def _linear_of_gelu(graph: GraphBuilder, inner: str, weights: Weights, name: str) -> str:
    return graph.linear_of_gelu(inner, weights.matrix(name), weights.vector(f"{name}.bias"))
