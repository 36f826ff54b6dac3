"""Building one graph: parameters in, nodes added by call, a model out.

A product takes rows of float32 and gives rows of float32. In between, every row is scaled to the
range of a byte by its own largest value, so that no row depends on its neighbours:

    x --Abs, max--> largest        x / largest --QuantizeLinear--> bytes
    bytes x int8 weights --MatMulIntegerToFloat--> * largest (+ bias)

Rows that lie to one side of zero, as those behind a GELU do, are moved so that their least value is
zero, and use every byte; what that adds to the product is the same for all rows and leaves with the
bias.

Dimensions: N = outputs, K = inputs, D = channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.engine.onnx.checkpoint import Floats, Matrix
from service.engine.onnx.processor import Numerics
from service.engine.onnx.scaled_rows import LARGEST_STEP, LEAST

OPSET = 21
IR_VERSION = 10
MICROSOFT = "com.microsoft"
FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
GELU_LEAST = -0.17
"""A GELU gives -0.16997 at the least, at -0.75."""
Shape = Sequence[int | str]


@dataclass(frozen=True, slots=True)
class ScaledRows:
    """Rows ready for a product: float32 as they were, or bytes and what they stand for.

    Args:
        values: the rows.
        largest: each row's largest value; None where the rows are float32.
        step: what one step of a byte is worth, of the largest value.
        zero: the byte that means zero.
    """

    values: str
    largest: str | None = None
    step: str = ""
    zero: str = ""


class GraphBuilder:
    """Collects the nodes of one graph; every method that adds some returns its output's name."""

    def __init__(self, name: str, numerics: Numerics) -> None:
        self._name = name
        self._numerics: Numerics = numerics
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: list[Any] = []
        self._known: dict[bytes, str] = {}

    @property
    def numerics(self) -> Numerics:
        """How its products are computed."""
        return self._numerics

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs declared so far."""
        return [value.name for value in self._inputs]

    def input(self, name: str, shape: Shape, kind: int = FLOAT) -> str:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, value: str, name: str, shape: Shape, kind: int = FLOAT) -> None:
        """Give a value out."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def op(
        self, kind: str, *inputs: str, domain: str = "", **attributes: float | Sequence[int]
    ) -> str:
        """Add a node with one output."""
        return self.split_op(kind, inputs, 1, domain=domain, **attributes)[0]

    def split_op(
        self,
        kind: str,
        inputs: Sequence[str],
        num_outputs: int,
        domain: str = "",
        **attributes: float | Sequence[int],
    ) -> list[str]:
        """Add a node with several outputs."""
        place = len(self._nodes)
        outputs = [f"{kind}_{place}_{index}" for index in range(num_outputs)]
        node = helper.make_node(kind, list(inputs), outputs, domain=domain)
        for name, value in attributes.items():
            node.attribute.append(helper.make_attribute(name, value))
        self._nodes.append(node)
        return outputs

    def constant(self, value: npt.NDArray[Any]) -> str:
        """Keep an array in the graph; small equal ones once."""
        key = value.tobytes() + str((value.dtype, value.shape)).encode() if value.size < 32 else b""  # noqa: PLR2004
        if key and key in self._known:
            return self._known[key]
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        if key:
            self._known[key] = name
        return name

    def number(self, value: float) -> str:
        """Keep one float."""
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        """Keep a list of integers: axes, shapes, sizes."""
        return self.constant(np.array(values, np.int64))

    def add(self, one: str, other: str) -> str:
        """Add with broadcasting."""
        return self.op("Add", one, other)

    def mul(self, one: str, other: str) -> str:
        """Multiply with broadcasting."""
        return self.op("Mul", one, other)

    def norm(self, x: str, weight_D: Floats) -> str:
        """LayerNorm of each row, without bias."""
        return self.op("LayerNormalization", x, self.constant(weight_D), axis=-1, epsilon=1e-5)

    def linear(self, x: str, matrix: Matrix, bias_N: Floats | None = None) -> str:
        """Multiply each row by a matrix in the graph's numerics.

        Shapes:
            x: (rows, K); out: (rows, N).
        """
        return self.product(self.scaled(x), matrix, bias_N)

    def linear_of_gelu(self, x: str, matrix: Matrix, bias_N: Floats) -> str:
        """Multiply rows that come out of a GELU; as `linear`, with bytes half as coarse."""
        if self._numerics == "float32":
            return self.exact_linear(x, matrix, bias_N)
        raised = self.add(x, self.number(-GELU_LEAST))
        largest = self.op("ReduceMax", raised, self.integers(1), keepdims=1)
        most = 2 * LARGEST_STEP[self._numerics] + 1
        step, zero = self.number(1 / most), self.constant(np.array(0, np.uint8))
        quantised = self.op("QuantizeLinear", self.op("Div", raised, largest), step, zero)
        rows = ScaledRows(quantised, largest, step, zero)
        return self.product(rows, matrix, bias_N + GELU_LEAST * matrix.unpacked().sum(axis=1))

    def scaled(self, x: str) -> ScaledRows:
        """Bring each row to the range of a byte by its own largest value."""
        if self._numerics == "float32":
            return ScaledRows(x)
        largest = self.op("ReduceMax", self.op("Abs", x), self.integers(1), keepdims=1)
        largest = self.op("Max", largest, self.constant(np.array([LEAST], np.float32)))
        most = LARGEST_STEP[self._numerics]
        step, zero = self.number(1 / most), self.constant(np.array(most + 1, np.uint8))
        quantised = self.op("QuantizeLinear", self.op("Div", x, largest), step, zero)
        return ScaledRows(quantised, largest, step, zero)

    def product(self, rows: ScaledRows, matrix: Matrix, bias_N: Floats | None = None) -> str:
        """Multiply rows that are scaled already by a matrix."""
        if rows.largest is None:
            return self.exact_linear(rows.values, matrix, bias_N)
        y = self.op(
            "MatMulIntegerToFloat",
            rows.values,
            self.constant(matrix.weight_NK.T),
            rows.step,
            self.constant(matrix.scale_N),
            rows.zero,
            domain=MICROSOFT,
        )
        y = self.mul(y, rows.largest)
        return y if bias_N is None else self.add(y, self.constant(bias_N))

    def exact_linear(self, x: str, matrix: Matrix, bias_N: Floats | None = None) -> str:
        """Multiply each row by a matrix in float32."""
        y = self.op("MatMul", x, self.constant(matrix.unpacked().T))
        return y if bias_N is None else self.add(y, self.constant(bias_N))

    def gelu(self, x: str) -> str:
        """GELU, exact."""
        return self.op("Gelu", x)

    def model(self) -> bytes:
        """Give the finished model, checked."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, self._constants
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        onnx.checker.check_model(model)  # pyright: ignore[reportUnknownMemberType]
        return model.SerializeToString()
