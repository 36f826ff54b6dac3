"""An encoder chunk by chunk: every frame computed once, streams of different plans in one step.

The chunks of all streams that are due lie side by side, each a segment at its own stride, so the
linear parts run over all rows at once. Norms know each row's stride; attention is each stream's
own, over its keys and values so far:

    stream 1  |....24 frames....|            layer at stride 2: 12 rows + cache of 1
    stream 2                    |....24....| layer at stride 4:  6 rows + cache of 2

Equal to a forward over the whole utterance under the chunk mask with a running norm. With a
look-ahead, what a layer cannot answer yet waits for the next chunk (`depth.look_ahead`): its rows
are heard once, their queries kept, and answered once.

Dimensions: T = frames of all streams side by side, G = rows of one layer, L = rows in a cache,
H = heads, K = channels of a head, D = channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model_store.backbones.attention import attend
from model_store.backbones.blocks import EncoderBlock
from model_store.backbones.elastic import ElasticLayer
from model_store.backbones.masks import stride_index
from model_store.backbones.moonshine import Encoder
from model_store.backbones.moonshine_stream import FrontEndState, advance
from model_store.depth import (
    DepthPlan,
    DepthSchedule,
    LayerTurn,
    Progress,
    check_look_ahead,
)
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
class LayerState:
    """What one layer of one stream keeps.

    Args:
        store: keys and values of what it heard; empty for a skipped layer.
        frames_TD: which came in and are not answered yet.
        rows_GD, query_HGK: rows of them that were heard already, and what they ask.
    """

    store: KeyValueStore
    frames_TD: Tensor | None = None
    rows_GD: Tensor | None = None
    query_HGK: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Rows heard."""
        return self.store.num_rows

    @property
    def num_bytes(self) -> int:
        """Bytes of all that is kept."""
        waiting = (self.frames_TD, self.rows_GD, self.query_HGK)
        there = sum(one.numel() * one.element_size() for one in waiting if one is not None)
        return self.store.num_bytes + there


@dataclass(slots=True)
class EncoderState:
    """What one stream's encoder keeps.

    Args:
        front_end: tails and sums.
        layers: what each keeps.
        progress: how far each has come.
    """

    front_end: FrontEndState
    layers: list[LayerState]
    progress: Progress

    @classmethod
    def begin(
        cls, num_layers: int, dtype: torch.dtype, look_ahead_frames: int = 0
    ) -> "EncoderState":
        """Before the first sample."""
        layers = [LayerState(KeyValueStore(dtype)) for _ in range(num_layers)]
        return cls(FrontEndState(), layers, Progress(look_ahead_frames))

    @property
    def num_final_frames(self) -> int:
        """Frames that no later audio changes: all that the last layer gave on."""
        return self.progress.num_final_frames

    @property
    def num_bytes(self) -> int:
        """Bytes of caches and tails."""
        return self.front_end.num_bytes + sum(layer.num_bytes for layer in self.layers)

    @property
    def waits(self) -> bool:
        """Whether frames wait for the next chunk."""
        return self.progress.waits

    def turns(self, plan: DepthPlan, num_frames: int, *, ended: bool) -> Sequence[LayerTurn]:
        """Say what each layer would do with a chunk, or with the end; see `depth.Progress`."""
        return self.progress.turns(plan, num_frames, ended=ended)


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


class IncrementalEncoder:
    """Runs one chunk of every stream that is due.

    Args:
        encoder: the model's.
        chunk_frames: of a whole chunk; one with fewer is its utterance's last.
    """

    def __init__(self, encoder: Encoder, chunk_frames: int) -> None:
        check_look_ahead(encoder.stack.look_ahead_frames, chunk_frames)
        self._encoder = encoder
        self.chunk_frames = chunk_frames

    def check(self, plan: DepthPlan, state: EncoderState) -> None:
        """Refuse a plan that this utterance cannot go on with.

        Raises:
            PlanInvalid: it skips other layers than the utterance's chunks so far, has another
                number of layers, or a stride that does not divide a chunk.
        """
        self._encoder.stack.check(DepthSchedule.constant(plan), self.chunk_frames)
        before = state.progress.plan
        if before is not None and _skipped(before) != _skipped(plan):
            raise PlanInvalid(
                f"expected a plan that skips what the utterance's first one does, got {str(plan)!r}"
            )

    def step(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Encode, in the order given; every plan has passed `check`.

        Returns:
            States of the frames of each stream that became final, x_TD.
        """
        states = [chunk.state for chunk in chunks]
        frames = advance(
            self._encoder.front_end,
            [state.front_end for state in states],
            [chunk.samples_S for chunk in chunks],
        )
        turns = [
            chunk.state.progress.advance(chunk.plan, len(x_TD), ended=len(x_TD) < self.chunk_frames)
            for chunk, x_TD in zip(chunks, frames, strict=True)
        ]
        return self._run(states, turns, list(frames))

    def finish(self, states: Sequence[EncoderState]) -> list[Tensor]:
        """Give the frames that still wait, x_TD of each stream: none unless its last chunk was whole."""
        weight_D = self._encoder.norm.weight
        nothing_TD = weight_D.new_zeros(0, len(weight_D))
        given = [nothing_TD] * len(states)
        places = [place for place, state in enumerate(states) if state.progress.waits]
        waiting = [states[place] for place in places]
        turns = [state.progress.finish() for state in waiting]
        if waiting:
            made = self._run(waiting, turns, [nothing_TD] * len(waiting))
            for place, x_TD in zip(places, made, strict=True):
                given[place] = x_TD
        return given

    def _run(
        self,
        states: Sequence[EncoderState],
        turns: Sequence[Sequence[LayerTurn]],
        frames: Sequence[Tensor],
    ) -> list[Tensor]:
        """Run all layers over frames that follow what each layer has; give what the last gives on."""
        for index, module in enumerate(self._encoder.stack.layers):
            assert isinstance(module, ElasticLayer), "expected layers that are wrapped"
            sides = [
                _Side(module, state.layers[index], turn[index], x_TD)
                for state, turn, x_TD in zip(states, turns, frames, strict=True)
            ]
            self._run_layer(module, [side for side in sides if side.runs])
            frames = [side.give_on() for side in sides]
        lengths = [len(x_TD) for x_TD in frames]
        return list(self._encoder.norm(torch.cat(list(frames))).split(lengths))

    def _run_layer(self, layer: ElasticLayer, sides: "Sequence[_Side]") -> None:
        """Hear and answer with one layer, the rows of all streams side by side."""
        block, stack = layer.block, self._encoder.stack
        assert isinstance(block, EncoderBlock), "expected Moonshine's block"
        heard = [part for side in sides for part in side.turn.heard]
        if heard:
            rows = [side.heard_rows() for side in sides]
            rows_1GD = torch.cat(rows).unsqueeze(0)
            context = stack.context(tuple(heard), rows_1GD.device)
            asked_HGK = [part[0] for part in block.hear(rows_1GD, context)]
            lengths = [len(rows_GD) for rows_GD in rows]
            pieces = zip(*(part.split(lengths, dim=1) for part in asked_HGK), strict=True)
            for side, rows_GD, piece in zip(sides, rows, pieces, strict=True):
                side.hear(rows_GD, *piece)
        answered = [part for side in sides for part in side.turn.answered]
        if answered:
            asking = [side.ask() for side in sides]
            rows_1GD = torch.cat([rows_GD for rows_GD, _ in asking]).unsqueeze(0)
            mixed_1HGK = torch.cat([mixed_HGK for _, mixed_HGK in asking], dim=1).unsqueeze(0)
            index_G = stride_index(answered, rows_1GD.device)
            change_GD = (block.answer(rows_1GD, mixed_1HGK, index_G) - rows_1GD)[0]
            lengths = [len(rows_GD) for rows_GD, _ in asking]
            for side, part_GD in zip(sides, change_GD.split(lengths), strict=True):
                side.change(part_GD)


class _Side:
    """One stream's share of one layer's turn.

    Args:
        layer: which.
        state: what the layer keeps of the stream.
        turn: what it hears and answers.
        new_TD: frames that come in.
    """

    def __init__(
        self, layer: ElasticLayer, state: LayerState, turn: LayerTurn, new_TD: Tensor
    ) -> None:
        self.turn = turn
        self.runs = not turn.skipped
        self._layer = layer
        self._state = state
        self._frames_TD = _joined(state.frames_TD, new_TD)
        self._given: list[Tensor] = []

    def heard_rows(self) -> Tensor:
        """Give the rows that are heard, (G, D)."""
        first = self.turn.first_frame
        rows = [
            self._layer.pooled(
                self._frames_TD[None, part.start_frame - first : part.end_frame - first],
                part.stride,
            )[0]
            for part in self.turn.heard
        ]
        return torch.cat(rows) if rows else self._frames_TD[:0]

    def hear(self, rows_GD: Tensor, query_HGK: Tensor, key_HGK: Tensor, value_HGK: Tensor) -> None:
        """Keep what rows say, and what they ask until it is answered."""
        if len(rows_GD):
            self._state.store.append(key_HGK, value_HGK)
        self._state.rows_GD = _joined(self._state.rows_GD, rows_GD)
        self._state.query_HGK = _joined(self._state.query_HGK, query_HGK, dim=1)

    def ask(self) -> tuple[Tensor, Tensor]:
        """Give the rows that are answered, and what they hear: everything that was heard by now."""
        state, count = self._state, self.turn.answered_rows
        assert state.rows_GD is not None, "what answers has heard"
        assert state.query_HGK is not None, "rows and queries are kept together"
        rows_GD, query_HGK = state.rows_GD[:count], state.query_HGK[:, :count]
        state.rows_GD = state.rows_GD[count:].clone()
        state.query_HGK = state.query_HGK[:, count:].clone()
        if not count:
            return rows_GD, query_HGK
        # All that is heard was said by the time the rows answer, so nothing is masked.
        return rows_GD, attend(query_HGK.unsqueeze(0), *state.store.read(), None)[0]

    def change(self, change_GD: Tensor) -> None:
        """Take the change of the rows that are answered."""
        row = 0
        for part in self.turn.answered:
            frames = part.end_frame - part.start_frame
            rows = part.num_rows
            rows_1GD = change_GD[None, row : row + rows]
            self._given.append(self._layer.given(rows_1GD, part.stride, frames)[0])
            row += rows

    def give_on(self) -> Tensor:
        """Give the frames that are answered, and keep the others."""
        count = self.turn.num_answered
        frames_TD = self._frames_TD[:count]
        self._state.frames_TD = self._frames_TD[count:].clone()
        if self._given:
            return frames_TD + torch.cat(self._given)
        bypass = self._layer.bypass
        return frames_TD if self.runs or bypass is None else bypass(frames_TD)


def _joined(before: Tensor | None, new: Tensor, dim: int = 0) -> Tensor:
    return new if before is None or not before.shape[dim] else torch.cat([before, new], dim=dim)


def _skipped(plan: DepthPlan) -> tuple[bool, ...]:
    return tuple(stride == 0 for stride in plan.strides)
