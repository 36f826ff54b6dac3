"""An encoder chunk by chunk: every frame computed once, streams of different plans in one step.

The chunks of all streams that are due lie side by side, each a segment at its own stride, so the
linear parts run over all rows at once. Norms know each row's stride; attention is each stream's
own, over its keys and values so far:

    stream 1  |....24 frames....|            layer at stride 2: 12 rows + cache of 1
    stream 2                    |....24....| layer at stride 4:  6 rows + cache of 2

Equal to a forward over the whole utterance under the chunk mask with a running norm.

Dimensions: T = frames of all streams side by side, G = rows of one layer, L = rows in a cache,
H = heads, K = channels of a head, D = channels.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model_store.backbones.attention import attend
from model_store.backbones.elastic import LayerRows, RowContext
from model_store.backbones.moonshine import Encoder
from model_store.backbones.moonshine_stream import FrontEndState, advance
from model_store.depth import DepthPlan, DepthSchedule, Segment
from model_store.errors import PlanInvalid

BLOCK_ROWS = 32
"""Rows that a cache grows by: 0.8 s at stride 1, so that copying what there is costs little."""


class KeyValueStore:
    """Keys and values of one layer of one stream, in room that grows by blocks.

    Args:
        dtype: what they are kept in; what is read is float32.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._room_2HLK: Tensor | None = None
        self.num_rows = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the room, whether used or not."""
        room = self._room_2HLK
        return 0 if room is None else room.numel() * room.element_size()

    def append(self, key_HGK: Tensor, value_HGK: Tensor) -> None:
        """Add rows behind the last one."""
        end = self.num_rows + key_HGK.shape[1]
        room = self._room_2HLK
        if room is None or end > room.shape[2]:
            rows = -(-end // BLOCK_ROWS) * BLOCK_ROWS
            heads, _, size = key_HGK.shape
            grown = torch.zeros(2, heads, rows, size, dtype=self._dtype, device=key_HGK.device)
            if room is not None:
                grown[:, :, : self.num_rows] = room[:, :, : self.num_rows]
            room = self._room_2HLK = grown
        room[0, :, self.num_rows : end] = key_HGK
        room[1, :, self.num_rows : end] = value_HGK
        self.num_rows = end

    def truncate(self, num_rows: int) -> None:
        """Forget the rows behind the first `num_rows`."""
        assert num_rows <= self.num_rows, f"expected at most {self.num_rows} rows, got {num_rows}"
        self.num_rows = num_rows

    def read(self) -> tuple[Tensor, Tensor]:
        """Give keys and values of all rows, each (1, H, L, K)."""
        assert self._room_2HLK is not None, "expected rows to read, got an empty store"
        key_HLK, value_HLK = self._room_2HLK[:, :, : self.num_rows].float()
        return key_HLK.unsqueeze(0), value_HLK.unsqueeze(0)


@dataclass(slots=True)
class EncoderState:
    """What one stream's encoder keeps.

    Args:
        front_end: tails and sums.
        layers: keys and values; empty for a skipped layer.
        skipped: which layers the utterance's plans skip; None before its first chunk.
    """

    front_end: FrontEndState
    layers: list[KeyValueStore]
    skipped: tuple[bool, ...] | None = None

    @classmethod
    def begin(cls, num_layers: int, dtype: torch.dtype) -> "EncoderState":
        """Before the first sample."""
        return cls(FrontEndState(), [KeyValueStore(dtype) for _ in range(num_layers)])

    @property
    def num_final_frames(self) -> int:
        """Frames that no later audio changes: all that were made."""
        return self.front_end.num_frames

    @property
    def num_bytes(self) -> int:
        """Bytes of caches and tails."""
        return self.front_end.num_bytes + sum(store.num_bytes for store in self.layers)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """One stream's share of a step.

    Args:
        state: of its utterance.
        samples_S: what the chunk's frames need further, see `moonshine_stream.advance`.
        plan: stride of every layer.
    """

    state: EncoderState
    samples_S: Tensor
    plan: DepthPlan


@dataclass(slots=True)
class _SideBySide:
    """Attention of one layer's rows, each stream's on its own cache."""

    stores: Sequence[KeyValueStore]
    rows: Sequence[int]

    def attend(self, query_BHGK: Tensor, key_BHGK: Tensor, value_BHGK: Tensor) -> Tensor:
        """See `elastic.RowCache`."""
        mixed_BHGK: list[Tensor] = []
        start = 0
        for store, rows in zip(self.stores, self.rows, strict=True):
            end = start + rows
            store.append(key_BHGK[0, :, start:end], value_BHGK[0, :, start:end])
            key_BHLK, value_BHLK = store.read()
            # All of a chunk sees all of the chunk and all before it, so nothing is masked.
            mixed_BHGK.append(attend(query_BHGK[:, :, start:end], key_BHLK, value_BHLK, None))
            start = end
        return torch.cat(mixed_BHGK, dim=2)


class IncrementalEncoder:
    """Runs one chunk of every stream that is due.

    Args:
        encoder: the model's.
        chunk_frames: of a whole chunk; the last one of an utterance may have fewer.
    """

    def __init__(self, encoder: Encoder, chunk_frames: int) -> None:
        self._encoder = encoder
        self.chunk_frames = chunk_frames

    def check(self, plan: DepthPlan, state: EncoderState) -> None:
        """Refuse a plan that this utterance cannot go on with.

        Raises:
            PlanInvalid: it skips other layers than the utterance's chunks so far, has another
                number of layers, or a stride that does not divide a chunk.
        """
        self._encoder.stack.check(DepthSchedule.constant(plan), self.chunk_frames)
        skipped = _skipped(plan)
        if state.skipped not in {None, skipped}:
            raise PlanInvalid(
                f"expected a plan that skips what the utterance's first one does, got {str(plan)!r}"
            )

    def step(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Encode, in the order given; every plan has passed `check`.

        Returns:
            States of each chunk's frames, x_TD.
        """
        stack = self._encoder.stack
        before = [chunk.state.front_end.num_frames for chunk in chunks]
        frames_TD = advance(
            self._encoder.front_end,
            [chunk.state.front_end for chunk in chunks],
            [chunk.samples_S for chunk in chunks],
        )
        for chunk in chunks:
            chunk.state.skipped = _skipped(chunk.plan)
        side = _Side([len(x_TD) for x_TD in frames_TD], before)
        contexts: dict[tuple[int, ...], RowContext] = {}
        device = frames_TD[0].device

        def rows_of(layer: int) -> LayerRows:
            strides = tuple(chunk.plan.strides[layer] for chunk in chunks)
            segments = side.segments(strides)
            if not any(strides):
                return LayerRows(segments, None)
            if strides not in contexts:
                moved = side.moved_frames()
                contexts[strides] = stack.context(segments, device, moved_frames=moved)
            running = [place for place, stride in enumerate(strides) if stride]
            cache = _SideBySide(
                [chunks[place].state.layers[layer] for place in running],
                [-(-side.lengths[place] // strides[place]) for place in running],
            )
            return LayerRows(segments, dataclasses.replace(contexts[strides], cache=cache))

        states_1TD = self._encoder.norm(stack.run(torch.cat(frames_TD).unsqueeze(0), rows_of))
        return list(states_1TD[0].split(side.lengths))


@dataclass(slots=True)
class _Side:
    """Where the streams' chunks lie beside each other, and where in their utterances."""

    lengths: list[int]
    first_frames: list[int]
    starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.starts = [sum(self.lengths[:place]) for place in range(len(self.lengths))]

    def segments(self, strides: Sequence[int]) -> tuple[Segment, ...]:
        return tuple(
            Segment(start, start + length, stride)
            for start, length, stride in zip(self.starts, self.lengths, strides, strict=True)
        )

    def moved_frames(self) -> tuple[int, ...]:
        return tuple(
            first - start for first, start in zip(self.first_frames, self.starts, strict=True)
        )


def _skipped(plan: DepthPlan) -> tuple[bool, ...]:
    return tuple(stride == 0 for stride in plan.strides)
