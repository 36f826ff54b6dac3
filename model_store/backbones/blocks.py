"""Transformer blocks that the backbones with an attention decoder share.

They differ in biases and in the decoder's feed-forward alone: Moonshine has no biases in norms and
attention and gates with SiLU, Whisper has biases and GELU.

Dimensions: B = utterances, G = encoder rows, U = new tokens, D = channels, I = inner channels.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.attention import CrossAttention, SelfAttention, TokenCache
from model_store.backbones.elastic import RowContext, StridedLayerNorm


class EncoderBlock(nn.Module):
    """Pre-norm attention and GELU feed-forward."""

    def __init__(self, dim: int, num_heads: int, inner_dim: int, *, bias: bool) -> None:
        super().__init__()
        self.attention_norm = StridedLayerNorm(dim, bias=bias)
        self.attention = SelfAttention(dim, num_heads, bias=bias)
        self.mlp_norm = StridedLayerNorm(dim, bias=bias)
        self.up = nn.Linear(dim, inner_dim)
        self.down = nn.Linear(inner_dim, dim)

    def forward(self, x_BGD: Tensor, context: RowContext) -> Tensor:
        """Run the layer over rows."""
        index_G = context.stride_index_G
        mixed_BGD = self.attention(self.attention_norm(x_BGD, index_G), context)
        return self._fed_forward(x_BGD + mixed_BGD, index_G)

    def hear(self, x_BGD: Tensor, context: RowContext) -> tuple[Tensor, Tensor, Tensor]:
        """Give queries, keys and values of rows, (B, H, G, K) each; the first half of `forward`."""
        return self.attention.project(self.attention_norm(x_BGD, context.stride_index_G), context)

    def answer(self, x_BGD: Tensor, mixed_BHGK: Tensor, stride_index_G: Tensor | int) -> Tensor:
        """Run the rest of the layer over rows whose queries have been answered."""
        return self._fed_forward(x_BGD + self.attention.merge(mixed_BHGK), stride_index_G)

    def _fed_forward(self, x_BGD: Tensor, index_G: Tensor | int) -> Tensor:
        return x_BGD + self.down(F.gelu(self.up(self.mlp_norm(x_BGD, index_G))))


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention, feed-forward.

    Args:
        gated: SiLU of half the inner channels times the other half, instead of GELU.
    """

    def __init__(
        self, dim: int, num_heads: int, inner_dim: int, *, bias: bool, gated: bool
    ) -> None:
        super().__init__()
        self.gated = gated
        self.attention_norm = nn.LayerNorm(dim, bias=bias)
        self.attention = SelfAttention(dim, num_heads, bias=bias)
        self.cross_norm = nn.LayerNorm(dim, bias=bias)
        self.cross = CrossAttention(dim, num_heads, bias=bias)
        self.mlp_norm = nn.LayerNorm(dim, bias=bias)
        self.up = nn.Linear(dim, 2 * inner_dim if gated else inner_dim)
        self.down = nn.Linear(inner_dim, dim)

    def forward(self, x_BUD: Tensor, context: RowContext, layer: int, cache: TokenCache) -> Tensor:
        """Run the layer over new tokens; keys and values go into the cache."""
        normed_BUD = self.attention_norm(x_BUD)
        x_BUD = x_BUD + self.attention.cached(normed_BUD, context, layer, cache)
        x_BUD = x_BUD + self.cross(self.cross_norm(x_BUD), layer, cache)
        return x_BUD + self.down(self._activated(self.up(self.mlp_norm(x_BUD))))

    def _activated(self, inner_BUI: Tensor) -> Tensor:
        if not self.gated:
            return F.gelu(inner_BUI)
        value_BUI, gate_BUI = inner_BUI.chunk(2, dim=-1)
        return F.silu(gate_BUI) * value_BUI
