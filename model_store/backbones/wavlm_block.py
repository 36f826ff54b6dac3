"""WavLM's layers: attention whose relative position bias every row gates by what it says.

The table of biases belongs to the whole encoder, not to its first layer as in the published code:
so it is there, whichever layers are skipped.

Dimensions: B = utterances, G = rows of a layer, D = channels, H = heads, K = channels of a head,
N = buckets of distance.

Source: Chen et al., WavLM, arXiv 2110.13900, section III; as in transformers, `models/wavlm`
(Apache-2.0).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.elastic import RowContext, StridedLayerNorm

GATES = 2
GATE_CHANNELS = 8


class RelativeBias(nn.Module):
    """What the scores of two rows gain by how far apart they lie, by head.

    Args:
        num_buckets: of distances; half of them for what comes after.
        max_distance: frames from which on all distances share a bucket.
    """

    def __init__(self, num_buckets: int, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.bias_NH = nn.Parameter(torch.zeros(num_buckets, num_heads))

    def forward(self, position_G: Tensor) -> Tensor:
        """Give bias_HGG of each query row (first G) and key row (second G).

        Rows at stride r stand r frames apart, so distances are r times those of their indices.
        """
        ahead_GG = (position_G[None, :] - position_G[:, None]).long()
        return self.bias_NH[self._bucket(ahead_GG)].permute(2, 0, 1)

    def _bucket(self, ahead_GG: Tensor) -> Tensor:
        one_way = self.bias_NH.shape[0] // 2
        exact = one_way // 2
        distance_GG = ahead_GG.abs()
        octaves_GG = torch.log(distance_GG.clamp(min=1).float() / exact)
        coarse_GG = exact + (octaves_GG / math.log(self.max_distance / exact) * (one_way - exact))
        far_GG = coarse_GG.long().clamp(max=one_way - 1)
        bucket_GG = torch.where(distance_GG < exact, distance_GG, far_GG)
        return bucket_GG + (ahead_GG > 0) * one_way


class GatedAttention(nn.Module):
    """Multi-head attention with the relative bias, gated by each row and head."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.gate = nn.Linear(dim // num_heads, GATE_CHANNELS)
        self.gate_scale_H = nn.Parameter(torch.ones(num_heads))

    def forward(self, x_BGD: Tensor, context: RowContext) -> Tensor:
        """Attend among the rows given."""
        assert context.bias_HGG is not None, "expected a stack with a relative bias"
        query, key, value = map(self._heads, self.qkv(x_BGD).chunk(3, dim=-1))
        bias_BHGG = self._gates(self._heads(x_BGD)) * context.bias_HGG
        if context.mask_BGG is not None:
            bias_BHGG = bias_BHGG.masked_fill(~context.mask_BGG.unsqueeze(1), -torch.inf)
        dropout = self.dropout if self.training else 0.0
        mixed_BHGK = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias_BHGG.to(query.dtype), dropout_p=dropout
        )
        return self.out(mixed_BHGK.transpose(1, 2).flatten(2))

    def _gates(self, x_BHGK: Tensor) -> Tensor:
        sums_BHG2 = self.gate(x_BHGK).unflatten(-1, (GATES, -1)).sum(-1)
        first_BHG1, second_BHG1 = torch.sigmoid(sums_BHG2).chunk(GATES, dim=-1)
        return first_BHG1 * (second_BHG1 * self.gate_scale_H[:, None, None] - 1.0) + 2.0

    def _heads(self, x_BGD: Tensor) -> Tensor:
        return x_BGD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class WavLMBlock(nn.Module):
    """Attention and GELU feed-forward.

    Args:
        pre_norm: norms before both parts, as in the large models, instead of after.
        eps: of the norms.
        dropout: share of what either part adds that training drops.
        attention_dropout, inner_dropout: of attention weights, and inside the feed-forward.
    """

    def __init__(  # noqa: PLR0913 sizes of one layer
        self,
        dim: int,
        num_heads: int,
        inner_dim: int,
        *,
        pre_norm: bool,
        eps: float,
        dropout: float,
        attention_dropout: float,
        inner_dropout: float,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = GatedAttention(dim, num_heads, attention_dropout)
        self.attention_norm = StridedLayerNorm(dim, bias=True, eps=eps)
        self.up = nn.Linear(dim, inner_dim)
        self.down = nn.Linear(inner_dim, dim)
        self.mlp_norm = StridedLayerNorm(dim, bias=True, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.inner_dropout = nn.Dropout(inner_dropout)

    def forward(self, x_BGD: Tensor, context: RowContext) -> Tensor:
        """Run the layer over rows."""
        index_G = context.stride_index_G
        if self.pre_norm:
            heard_BGD = self.attention(self.attention_norm(x_BGD, index_G), context)
            x_BGD = x_BGD + self.dropout(heard_BGD)
            return x_BGD + self._feed_forward(self.mlp_norm(x_BGD, index_G))
        x_BGD = x_BGD + self.dropout(self.attention(x_BGD, context))
        x_BGD = self.attention_norm(x_BGD, index_G)
        return self.mlp_norm(x_BGD + self._feed_forward(x_BGD), index_G)

    def _feed_forward(self, x_BGD: Tensor) -> Tensor:
        return self.dropout(self.down(self.inner_dropout(F.gelu(self.up(x_BGD)))))
