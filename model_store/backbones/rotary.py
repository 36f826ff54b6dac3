"""Rotary positions, interleaved, over the first channels of each head.

Dimensions: B = utterances, H = heads, N = rows or tokens, K = channels of a head, R = half of the
rotated channels.

Source: Su et al., RoFormer, arXiv 2104.09864; the interleaved, partial form of Moonshine
(transformers, `models/moonshine`, Apache-2.0).
"""

import torch
from torch import Tensor, nn


class RotaryFrequencies(nn.Module):
    """Turns positions into cosines and sines.

    Args:
        rotated: channels of a head that are rotated, even.
        theta: base of the geometric series of frequencies.
    """

    def __init__(self, rotated: int, theta: float = 10_000.0) -> None:
        super().__init__()
        exponent_R = torch.arange(0, rotated, 2, dtype=torch.float32) / rotated
        self.register_buffer("frequency_R", theta**-exponent_R, persistent=False)

    def forward(self, position_N: Tensor) -> tuple[Tensor, Tensor]:
        """Give cosines and sines, each (N, R), in float32."""
        frequency_R: Tensor = self.get_buffer("frequency_R")
        angle_NR = position_N[..., None].float() * frequency_R
        return angle_NR.cos(), angle_NR.sin()


def rotate(x_BHNK: Tensor, cos_NR: Tensor, sin_NR: Tensor) -> Tensor:
    """Rotate neighbouring channel pairs (0,1), (2,3), ... by each position's angles."""
    rotated = 2 * cos_NR.shape[-1]
    pairs_BHNR2 = x_BHNK[..., :rotated].float().unflatten(-1, (-1, 2))
    even_BHNR, odd_BHNR = pairs_BHNR2.unbind(-1)
    turned_BHNR2 = torch.stack(
        (even_BHNR * cos_NR - odd_BHNR * sin_NR, odd_BHNR * cos_NR + even_BHNR * sin_NR), dim=-1
    )
    turned_BHNK = turned_BHNR2.flatten(-2).to(x_BHNK.dtype)
    return torch.cat((turned_BHNK, x_BHNK[..., rotated:]), dim=-1)
