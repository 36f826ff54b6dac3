"""Attention within a window of time, for layers whose rows may stand for groups of frames.

Dimensions: B = utterances, G = rows of a layer, L = rows that are heard, D = channels, H = heads,
K = channels of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.attention import attend
from model_store.backbones.elastic import RowContext, StridedLayerNorm
from model_store.depth import STRIDES


@dataclass(frozen=True, slots=True)
class Spans:
    """The frames that rows stand for, first and last one included."""

    first_G: Tensor
    last_G: Tensor

    @classmethod
    def of_rows(cls, context: RowContext) -> "Spans":
        """Give the frames of a layer's rows."""
        index_G = context.stride_index_G
        if isinstance(index_G, int):
            reach_G: Tensor | float = (STRIDES[index_G] - 1) / 2
        else:
            strides = torch.tensor(STRIDES, device=index_G.device)
            reach_G = (strides[index_G] - 1) / 2
        return cls(context.position_G - reach_G, context.position_G + reach_G)


@dataclass(frozen=True, slots=True)
class Window:
    """How many frames a frame hears before and after itself.

    A row hears every row that holds a frame which one of its own would hear: at stride r the
    window is rounded up to whole groups, ceil(back / r) before and ceil(ahead / r) after.
    """

    back: int
    ahead: int

    def mask(self, query: Spans, key: Spans) -> Tensor:
        """Tell which keys each query hears, (G, L)."""
        earliest_G1 = (query.first_G - self.back).unsqueeze(1)
        latest_G1 = (query.last_G + self.ahead).unsqueeze(1)
        return (key.last_G >= earliest_G1) & (key.first_G <= latest_G1)


class WindowedAttention(nn.Module):
    """Multi-head attention without positions or biases; heads need not fill the channels."""

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim, bias=False)
        self.out = nn.Linear(num_heads * head_dim, dim, bias=False)

    def project(self, x_BGD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give queries, keys and values, each (B, H, G, K)."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.qkv(x_BGD).chunk(3, dim=-1)
        )
        return query, key, value

    def hear(
        self, query_BHGK: Tensor, key_BHLK: Tensor, value_BHLK: Tensor, mask_BGL: Tensor
    ) -> Tensor:
        """Mix the values that each query hears, (B, G, D)."""
        mixed_BHGK = attend(query_BHGK, key_BHLK, value_BHLK, mask_BGL)
        return self.out(mixed_BHGK.transpose(1, 2).flatten(2))


class WindowedBlock(nn.Module):
    """Pre-norm attention within a window, and GELU feed-forward.

    `forward` runs whole utterances; a stream calls `project` when a row is complete and `finish`
    when the rows it hears are.
    """

    def __init__(
        self, dim: int, num_heads: int, head_dim: int, inner_dim: int, window: Window
    ) -> None:
        super().__init__()
        self.window = window
        self.attention_norm = StridedLayerNorm(dim, bias=False)
        self.attention = WindowedAttention(dim, num_heads, head_dim)
        self.mlp_norm = StridedLayerNorm(dim, bias=False)
        self.up = nn.Linear(dim, inner_dim)
        self.down = nn.Linear(inner_dim, dim)

    def forward(self, x_BGD: Tensor, context: RowContext) -> Tensor:
        """Run the layer over rows."""
        spans = Spans.of_rows(context)
        mask_BGG = self.window.mask(spans, spans).unsqueeze(0)
        if context.mask_BGG is not None:
            # A row past its utterance's end hears nothing else; hearing itself keeps it finite.
            itself_GG = torch.eye(x_BGD.shape[1], dtype=torch.bool, device=x_BGD.device)
            mask_BGG = (mask_BGG & context.mask_BGG) | itself_GG
        query_BHGK, key_BHGK, value_BHGK = self.project(x_BGD, context.stride_index_G)
        heard_BGD = self.attention.hear(query_BHGK, key_BHGK, value_BHGK, mask_BGG)
        return self.finish(x_BGD, heard_BGD, context.stride_index_G)

    def project(self, x_BGD: Tensor, stride_index_G: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
        """Give the rows' queries, keys and values."""
        return self.attention.project(self.attention_norm(x_BGD, stride_index_G))

    def finish(self, x_BGD: Tensor, heard_BGD: Tensor, stride_index_G: Tensor | int) -> Tensor:
        """Add what the rows heard, and the feed-forward."""
        x_BGD = x_BGD + heard_BGD
        return x_BGD + self.down(F.gelu(self.up(self.mlp_norm(x_BGD, stride_index_G))))
