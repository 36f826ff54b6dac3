import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engine.onnx.elastic import give_back, pooled

CHANNELS = 5


@given(num_frames=st.integers(1, 40), stride=st.sampled_from([2, 4, 8]), seed=st.integers(0, 2**16))
def test_groups_are_weighed_and_their_changes_given_back(
    num_frames: int, stride: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    x_TD, pool_RD, give_RD = (
        generator.standard_normal((rows, CHANNELS)).astype(np.float32)
        for rows in (num_frames, stride, stride)
    )
    num_rows = -(-num_frames // stride)
    change_GD = generator.standard_normal((num_rows, CHANNELS)).astype(np.float32)

    found_GD = pooled(x_TD, pool_RD)
    given_TD = x_TD.copy()
    give_back(given_TD, change_GD, give_RD)

    frame_GR = np.arange(num_rows * stride).reshape(num_rows, stride).clip(max=num_frames - 1)
    expected_GD = (x_TD[frame_GR] * pool_RD).sum(axis=1)
    np.testing.assert_allclose(found_GD, expected_GD, rtol=1e-4, atol=1e-5)
    for frame in range(num_frames):
        change_D = change_GD[frame // stride] * give_RD[frame % stride]
        np.testing.assert_allclose(given_TD[frame], x_TD[frame] + change_D, rtol=1e-5, atol=1e-6)
