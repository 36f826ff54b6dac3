"""Room that grows keeps what is in it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engine.onnx.rooms import widened


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.data())
def test_it_is_padding_with_zeros_behind(shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    num_rows = data.draw(st.integers(0, 5))
    room = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
    widths = [(0, num_rows if place == axis else 0) for place in range(len(shape))]
    wider = widened(room, axis, num_rows)
    np.testing.assert_array_equal(wider, np.pad(room, widths))
    assert wider.dtype == np.float32
