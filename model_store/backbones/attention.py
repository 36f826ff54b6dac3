"""Attention with and without caches, shared by the encoders and decoders.

Dimensions: B = utterances, G = encoder rows, U = new tokens, L = tokens in the cache,
P = pooled encoder frames, D = channels, H = heads, K = channels of a head, C = layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.elastic import RowContext
from model_store.backbones.rotary import rotate


@dataclass(frozen=True, slots=True)
class PooledStates:
    """What cross-attention sees: states_BPD, and how many of each utterance's rows are valid."""

    states_BPD: Tensor
    num_rows_B: Tensor


def pool_memory(states_BTD: Tensor, num_frames_B: Tensor, pool_RD: Tensor) -> PooledStates:
    """Weigh and add each R frames; the last group repeats the utterance's last frame.

    Args:
        states_BTD: encoder output.
        num_frames_B: valid frames of each utterance.
        pool_RD: weights by place in the group and channel; one row leaves the states as they are.
    """
    pool = pool_RD.shape[0]
    if pool == 1:
        return PooledStates(states_BTD, num_frames_B)
    rows = -(-states_BTD.shape[1] // pool)
    frame_T = torch.arange(rows * pool, device=states_BTD.device)
    index_BT = torch.minimum(frame_T, num_frames_B[:, None] - 1)
    filled_BTD = states_BTD.gather(1, index_BT.unsqueeze(-1).expand(-1, -1, states_BTD.shape[2]))
    pooled_BPD = (filled_BTD.unflatten(1, (rows, pool)) * pool_RD).sum(2)
    return PooledStates(pooled_BPD, -(-num_frames_B // pool))


class TokenCache(Protocol):
    """What a decoder's layers attend to; where the keys and values lie is its own business."""

    def positions(self, new_tokens: int) -> Tensor:
        """Give the positions of new tokens, position_U."""
        ...

    def causal_mask(self, new_tokens: int) -> Tensor | None:
        """Give the mask that `attend_self` takes; None where none is needed."""
        ...

    def attend_self(
        self,
        layer: int,
        query_BHUK: Tensor,
        key_BHUK: Tensor,
        value_BHUK: Tensor,
        mask_BUL: Tensor | None,
    ) -> Tensor:
        """Store the new tokens' keys and values; attend to them and to those before."""
        ...

    def attend_cross(self, layer: int, query_BHUK: Tensor) -> Tensor:
        """Attend to the encoder's states."""
        ...

    def advance(self, new_tokens: int) -> None:
        """Count the tokens whose keys and values every layer has stored."""
        ...


@dataclass(slots=True)
class DecoderCache:
    """Keys and values of one batch of transcripts.

    Args:
        self_CBHLK: room for the tokens' keys and values, one pair a layer.
        cross_CBHPK: keys and values of the encoder's states, one pair a layer.
        cross_mask_B11P: True where a state is valid; None when all are.
        weights_BHUP: cross-attention weights of the latest step by layer, kept only for the heads
            asked for in `watched`.
    """

    self_keys: list[Tensor]
    self_values: list[Tensor]
    cross_keys: list[Tensor]
    cross_values: list[Tensor]
    cross_mask_B11P: Tensor | None
    num_tokens: int = 0
    watched: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    weights_BHUP: dict[int, Tensor] = field(default_factory=dict[int, Tensor])

    @classmethod
    def begin(
        cls, layers: Sequence["CrossAttention"], pooled: PooledStates, max_tokens: int
    ) -> "DecoderCache":
        """Project the states for every layer and make room for tokens."""
        pairs = [layer.keys_values(pooled.states_BPD) for layer in layers]
        key_BHPK = pairs[0][0]
        batch, heads, rows, size = key_BHPK.shape
        valid_BP = torch.arange(rows, device=key_BHPK.device) < pooled.num_rows_B[:, None]
        room = [key_BHPK.new_empty(batch, heads, max_tokens, size) for _ in range(2 * len(layers))]
        return cls(
            self_keys=room[: len(layers)],
            self_values=room[len(layers) :],
            cross_keys=[key for key, _ in pairs],
            cross_values=[value for _, value in pairs],
            cross_mask_B11P=None if bool(valid_BP.all()) else valid_BP[:, None, None],
        )

    def positions(self, new_tokens: int) -> Tensor:
        """Give the positions of new tokens, position_U."""
        device = self.cross_keys[0].device
        return self.num_tokens + torch.arange(new_tokens, device=device)

    def causal_mask(self, new_tokens: int) -> Tensor | None:
        """Give the mask of new tokens over all so far, (1, U, L + U); None for a single one."""
        if new_tokens == 1:
            return None
        total = self.num_tokens + new_tokens
        device = self.cross_keys[0].device
        row_U = torch.arange(self.num_tokens, total, device=device)
        return (torch.arange(total, device=device) <= row_U[:, None]).unsqueeze(0)

    def advance(self, new_tokens: int) -> None:
        """Count the tokens whose keys and values every layer has stored."""
        self.num_tokens += new_tokens

    def attend_self(
        self,
        layer: int,
        query_BHUK: Tensor,
        key_BHUK: Tensor,
        value_BHUK: Tensor,
        mask_BUL: Tensor | None,
    ) -> Tensor:
        """Store the new tokens' keys and values; attend to them and to those before."""
        if torch.is_grad_enabled():
            return attend(query_BHUK, key_BHUK, value_BHUK, mask_BUL)
        start, end = self.num_tokens, self.num_tokens + query_BHUK.shape[2]
        self.self_keys[layer][:, :, start:end] = key_BHUK
        self.self_values[layer][:, :, start:end] = value_BHUK
        key_BHLK = self.self_keys[layer][:, :, :end]
        value_BHLK = self.self_values[layer][:, :, :end]
        return attend(query_BHUK, key_BHLK, value_BHLK, mask_BUL)

    def attend_cross(self, layer: int, query_BHUK: Tensor) -> Tensor:
        """Attend to the encoder's states; watched heads leave their weights."""
        key_BHPK, value_BHPK = self.cross_keys[layer], self.cross_values[layer]
        mixed_BHUK = F.scaled_dot_product_attention(
            query_BHUK, key_BHPK, value_BHPK, attn_mask=self.cross_mask_B11P
        )
        if layer in self.watched:
            heads = self.watched[layer]
            self.weights_BHUP[layer] = attention_weights(
                query_BHUK[:, heads], key_BHPK[:, heads], self.cross_mask_B11P
            )
        return mixed_BHUK

    def keep(self, rows_B: Tensor) -> None:
        """Go on with some of the transcripts, in the order given."""
        for pairs in (self.self_keys, self.self_values, self.cross_keys, self.cross_values):
            pairs[:] = [tensor[rows_B] for tensor in pairs]
        if self.cross_mask_B11P is not None:
            self.cross_mask_B11P = self.cross_mask_B11P[rows_B]


class SelfAttention(nn.Module):
    """Multi-head attention of rows on each other, rotary when the context says so.

    Args:
        dim: channels.
        num_heads: divides them.
        bias: of the projections.
        dropout: share of the weights that training drops.
    """

    def __init__(
        self, dim: int, num_heads: int, *, bias: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def forward(self, x_BGD: Tensor, context: RowContext) -> Tensor:
        """Attend among the rows given, and to those in the context's cache."""
        query_BHGK, key_BHGK, value_BHGK = self.project(x_BGD, context)
        if context.cache is not None:
            return self.merge(context.cache.attend(query_BHGK, key_BHGK, value_BHGK))
        dropout = self.dropout if self.training else 0.0
        return self.merge(attend(query_BHGK, key_BHGK, value_BHGK, context.mask_BGG, dropout))

    def cached(self, x_BUD: Tensor, context: RowContext, layer: int, cache: TokenCache) -> Tensor:
        """Attend to the tokens in the cache and to the new ones, which are added to it."""
        query_BHUK, key_BHUK, value_BHUK = self.project(x_BUD, context)
        return self.merge(
            cache.attend_self(layer, query_BHUK, key_BHUK, value_BHUK, context.mask_BGG)
        )

    def project(self, x_BGD: Tensor, context: RowContext) -> tuple[Tensor, Tensor, Tensor]:
        """Give queries, keys and values, rotated when the context says so, (B, H, G, K) each."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.qkv(x_BGD).chunk(3, dim=-1)
        )
        if context.rotary_cos_GR is not None and context.rotary_sin_GR is not None:
            query = rotate(query, context.rotary_cos_GR, context.rotary_sin_GR)
            key = rotate(key, context.rotary_cos_GR, context.rotary_sin_GR)
        return query, key, value

    def merge(self, mixed_BHGK: Tensor) -> Tensor:
        """Put the heads of mixed values together, (B, G, D)."""
        return self.out(mixed_BHGK.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention of tokens to encoder states, without positions."""

    def __init__(self, dim: int, num_heads: int, *, bias: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def keys_values(self, states_BPD: Tensor) -> tuple[Tensor, Tensor]:
        """Project encoder states once for all tokens to come."""
        key_BPD, value_BPD = self.kv(states_BPD).chunk(2, dim=-1)
        return self._heads(key_BPD), self._heads(value_BPD)

    def forward(self, x_BUD: Tensor, layer: int, cache: TokenCache) -> Tensor:
        """Attend to the states in the cache."""
        mixed_BHUK = cache.attend_cross(layer, self._heads(self.query(x_BUD)))
        return self.out(mixed_BHUK.transpose(1, 2).flatten(2))

    def _heads(self, x_BND: Tensor) -> Tensor:
        return x_BND.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def attend(
    query_BHGK: Tensor,
    key_BHLK: Tensor,
    value_BHLK: Tensor,
    mask_BGL: Tensor | None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend with every head under one mask."""
    mask_B1GL = None if mask_BGL is None else mask_BGL.unsqueeze(1)
    return F.scaled_dot_product_attention(
        query_BHGK, key_BHLK, value_BHLK, attn_mask=mask_B1GL, dropout_p=dropout
    )


def attention_weights(query_BHUK: Tensor, key_BHPK: Tensor, mask_B11P: Tensor | None) -> Tensor:
    """Give the weights that attention has, (B, H, U, P)."""
    score_BHUP = query_BHUK @ key_BHPK.transpose(2, 3) / math.sqrt(query_BHUK.shape[-1])
    if mask_B11P is not None:
        score_BHUP = score_BHUP.masked_fill(~mask_B11P, -torch.inf)
    return score_BHUP.softmax(-1)
