"""What the decoder attends to when it writes several live transcripts at once.

The new tokens of all transcripts lie side by side, one or more of each, so that the matrices are
read once for all of them; attention is each transcript's own:

    token_1U   | a a a | b | c c |        tokens of transcripts a, b, c
    self       a's cache | b's | c's      as many rows as each has tokens
    cross      a's audio | b's | c's      as many rows as each has pooled frames

Dimensions: U = new tokens of all transcripts, L = tokens and P = pooled frames of one, H = heads,
K = channels of a head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model_store.backbones.attention import attend, attention_weights
from model_store.backbones.incremental import KeyValueStore


@dataclass(slots=True)
class TranscriptMemory:
    """Keys and values of one transcript, by decoder layer.

    Args:
        tokens: of what was written, as far as it was taken in.
        audio: of the pooled frames.
    """

    tokens: list[KeyValueStore]
    audio: list[KeyValueStore]

    @classmethod
    def begin(cls, num_layers: int, dtype: torch.dtype) -> "TranscriptMemory":
        """Nothing heard, nothing written."""
        stores = [KeyValueStore(dtype) for _ in range(2 * num_layers)]
        return cls(stores[:num_layers], stores[num_layers:])

    @property
    def num_tokens(self) -> int:
        """Tokens taken in."""
        return self.tokens[0].num_rows

    @property
    def num_rows(self) -> int:
        """Pooled frames there are."""
        return self.audio[0].num_rows

    @property
    def num_bytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(store.num_bytes for store in (*self.tokens, *self.audio))

    def truncate(self, num_tokens: int) -> None:
        """Forget the tokens behind the first `num_tokens`."""
        for store in self.tokens:
            store.truncate(num_tokens)


@dataclass(slots=True)
class SideBySideCache:
    """The token cache of one decoder call; see `backbones.attention.TokenCache`.

    Args:
        memories: of the transcripts that write.
        new_tokens: how many of each.
        device: where the tokens are.
        watched: heads by layer whose cross-attention weights are wanted.
        audio: keys and values of the audio by transcript and layer, read once and shared by the
            calls of an update.
        weights: by transcript, the watched heads' weights, (H, U, P) each, in the layers' order.
    """

    memories: Sequence[TranscriptMemory]
    new_tokens: Sequence[int]
    device: torch.device
    watched: Mapping[int, Sequence[int]]
    audio: dict[tuple[int, int], tuple[Tensor, Tensor]]
    weights: list[list[Tensor]] = field(init=False)
    _before: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.weights = [[] for _ in self.memories]
        self._before = [memory.num_tokens for memory in self.memories]

    def positions(self, new_tokens: int) -> Tensor:
        """Give each token's position in its own transcript."""
        assert new_tokens == sum(self.new_tokens), "expected the tokens of all transcripts"
        pairs = zip(self._before, self.new_tokens, strict=True)
        return torch.cat([torch.arange(at, at + new, device=self.device) for at, new in pairs])

    def causal_mask(self, new_tokens: int) -> Tensor | None:
        """Give none: each transcript has its own."""
        return None

    def attend_self(
        self,
        layer: int,
        query_BHUK: Tensor,
        key_BHUK: Tensor,
        value_BHUK: Tensor,
        mask_BUL: Tensor | None,
    ) -> Tensor:
        """Store each transcript's keys and values and attend within it."""
        mixed: list[Tensor] = []
        start = 0
        for memory, before, new in zip(self.memories, self._before, self.new_tokens, strict=True):
            end = start + new
            store = memory.tokens[layer]
            store.append(key_BHUK[0, :, start:end], value_BHUK[0, :, start:end])
            key_BHLK, value_BHLK = store.read()
            mask_1UL = _causal(before, new, self.device) if new > 1 else None
            mixed.append(attend(query_BHUK[:, :, start:end], key_BHLK, value_BHLK, mask_1UL))
            start = end
        return torch.cat(mixed, dim=2)

    def attend_cross(self, layer: int, query_BHUK: Tensor) -> Tensor:
        """Attend to each transcript's audio."""
        mixed: list[Tensor] = []
        start = 0
        heads = self.watched.get(layer)
        for index, (memory, new) in enumerate(zip(self.memories, self.new_tokens, strict=True)):
            end = start + new
            query_1HUK = query_BHUK[:, :, start:end]
            key_1HPK, value_1HPK = self._audio(memory, layer)
            mixed.append(attend(query_1HUK, key_1HPK, value_1HPK, None))
            if heads:
                chosen = list(heads)
                weights_1HUP = attention_weights(query_1HUK[:, chosen], key_1HPK[:, chosen], None)
                self.weights[index].append(weights_1HUP[0])
            start = end
        return torch.cat(mixed, dim=2)

    def advance(self, new_tokens: int) -> None:
        """Do nothing: the stores have counted."""

    def _audio(self, memory: TranscriptMemory, layer: int) -> tuple[Tensor, Tensor]:
        key = (id(memory), layer)
        if key not in self.audio:
            self.audio[key] = memory.audio[layer].read()
        return self.audio[key]


def _causal(before: int, new: int, device: torch.device) -> Tensor:
    row_U = torch.arange(before, before + new, device=device)
    return (torch.arange(before + new, device=device) <= row_U[:, None]).unsqueeze(0)
