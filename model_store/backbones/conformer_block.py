"""The Conformer block up to its final norm, for rows that may stand for groups of frames.

Dimensions: B = utterances, G = rows of a layer, L = rows that a convolution reads, D = channels,
I = inner channels, S = strides.

Source: Gulati et al., Conformer, arXiv 2005.08100; sizes, order and norms as in torchaudio's
`Conformer` (BSD-2-Clause), which the papers' code builds on.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.attention import SelfAttention
from model_store.backbones.elastic import RowContext, StridedLayerNorm
from model_store.depth import STRIDES

ConvolutionNorm = Literal["batch", "layer"]
MOMENTUM = 0.1
"""Share of a batch in the running statistics, torch's own."""


class StridedBatchNorm(nn.Module):
    """Batch norm over valid rows, with weights and running statistics of its own for every stride.

    One set for all would mix what rows of 40 ms and of 320 ms are like.

    Args:
        dim: channels.
        strides: sets.
    """

    def __init__(self, dim: int, strides: int = len(STRIDES), eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight_SD = nn.Parameter(torch.ones(strides, dim))
        self.bias_SD = nn.Parameter(torch.zeros(strides, dim))
        self.register_buffer("running_mean_SD", torch.zeros(strides, dim))
        self.register_buffer("running_var_SD", torch.ones(strides, dim))

    def forward(
        self, x_BGD: Tensor, stride_index_G: Tensor | int, valid_BG: Tensor | None
    ) -> Tensor:
        """Normalise each row with its stride's statistics: the batch's in training, else those kept.

        Args:
            x_BGD: rows.
            stride_index_G: set of each row.
            valid_BG: rows that count; None for all.
        """
        if not self.training:
            mean_SD, var_SD = self.get_buffer("running_mean_SD"), self.get_buffer("running_var_SD")
            scale_SD = self.weight_SD * torch.rsqrt(var_SD + self.eps)
            shift_SD = self.bias_SD - mean_SD * scale_SD
            return x_BGD * scale_SD[stride_index_G] + shift_SD[stride_index_G]
        if isinstance(stride_index_G, int):
            return self._of_batch(x_BGD, stride_index_G, valid_BG)
        normed_BGD = torch.zeros_like(x_BGD)
        for index in stride_index_G.unique().tolist():
            chosen_G = (stride_index_G == index).nonzero().squeeze(1)
            valid_BN = None if valid_BG is None else valid_BG[:, chosen_G]
            part_BND = self._of_batch(x_BGD[:, chosen_G], index, valid_BN)
            normed_BGD = normed_BGD.index_copy(1, chosen_G, part_BND)
        return normed_BGD

    def _of_batch(self, x_BGD: Tensor, index: int, valid_BG: Tensor | None) -> Tensor:
        x_BGD = x_BGD.float()
        row_ND = x_BGD.flatten(0, 1) if valid_BG is None else x_BGD[valid_BG]
        if not len(row_ND):
            return x_BGD
        var_D, mean_D = torch.var_mean(row_ND, dim=0, correction=0)
        with torch.no_grad():
            unbiased = len(row_ND) / max(1, len(row_ND) - 1)
            self.get_buffer("running_mean_SD")[index].lerp_(mean_D, MOMENTUM)
            self.get_buffer("running_var_SD")[index].lerp_(var_D * unbiased, MOMENTUM)
        normed_BGD = (x_BGD - mean_D) * torch.rsqrt(var_D + self.eps)
        return normed_BGD * self.weight_SD[index] + self.bias_SD[index]


class FeedForward(nn.Module):
    """LayerNorm, up, SiLU, down."""

    def __init__(self, dim: int, inner_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = StridedLayerNorm(dim, bias=True)
        self.up = nn.Linear(dim, inner_dim)
        self.down = nn.Linear(inner_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BGD: Tensor, stride_index_G: Tensor | int) -> Tensor:
        """Give what the feed-forward adds."""
        inner_BGI = F.silu(self.up(self.norm(x_BGD, stride_index_G)))
        return self.dropout(self.down(self.dropout(inner_BGI)))


class ConvolutionModule(nn.Module):
    """LayerNorm, gated pointwise, depthwise over rows, norm, SiLU, pointwise.

    Args:
        dim: channels.
        kernel: rows that the depthwise convolution reads, odd.
        norm: batch norm, as published, or LayerNorm.
        causal: read the rows before alone, instead of as many after.
        dropout: share that training drops.
    """

    def __init__(
        self, dim: int, kernel: int, norm: ConvolutionNorm, *, causal: bool, dropout: float
    ) -> None:
        super().__init__()
        self.norm = StridedLayerNorm(dim, bias=True)
        self.gated = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim)
        batch = norm == "batch"
        self.row_norm = StridedBatchNorm(dim) if batch else StridedLayerNorm(dim, bias=True)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.padding = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)

    def forward(self, x_BGD: Tensor, context: RowContext) -> Tensor:
        """Give what the convolution adds."""
        index_G, valid_BG = context.stride_index_G, context.valid_BG
        gated_BGD = F.glu(self.gated(self.norm(x_BGD, index_G)), dim=-1)
        if valid_BG is not None:
            # What follows an utterance's end is to its last rows what the end of the input is.
            gated_BGD = gated_BGD * valid_BG.unsqueeze(-1)
        if context.history is None:
            read_BLD = F.pad(gated_BGD, (0, 0, *self.padding))
        else:
            read_BLD = context.history.extend(gated_BGD)
        mixed_BGD = self.depthwise(read_BLD.transpose(1, 2)).transpose(1, 2)
        if isinstance(self.row_norm, StridedBatchNorm):
            normed_BGD = self.row_norm(mixed_BGD, index_G, valid_BG)
        else:
            normed_BGD = self.row_norm(mixed_BGD, index_G)
        return self.dropout(self.out(F.silu(normed_BGD)))


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward; the final norm comes after.

    It is not part of the block because a skipped layer keeps it; see `elastic.ElasticLayer`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        inner_dim: int,
        convolution: ConvolutionModule,
        dropout: float,
    ) -> None:
        super().__init__()
        self.first = FeedForward(dim, inner_dim, dropout)
        self.attention_norm = StridedLayerNorm(dim, bias=True)
        self.attention = SelfAttention(dim, num_heads, bias=True, dropout=dropout)
        self.convolution = convolution
        self.second = FeedForward(dim, inner_dim, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BGD: Tensor, context: RowContext) -> Tensor:
        """Run the layer over rows."""
        index_G = context.stride_index_G
        x_BGD = x_BGD + 0.5 * self.first(x_BGD, index_G)
        heard_BGD = self.attention(self.attention_norm(x_BGD, index_G), context)
        x_BGD = x_BGD + self.dropout(heard_BGD)
        x_BGD = x_BGD + self.convolution(x_BGD, context)
        return x_BGD + 0.5 * self.second(x_BGD, index_G)
