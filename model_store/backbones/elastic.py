"""The elastic layer loop: every layer at its own stride, written once for all backbones.

A layer at stride r sees the mean of r neighbouring frames and runs once for them; the change it
makes is given back to all r: `x + repeat(layer(pool(x)) - pool(x))`. Stride 0 skips the layer, and
a small bypass stands in for it. Mean and giving back are weighted per (layer, stride) and channel,
LayerNorms are owned per (layer, stride); nothing is learned per plan, so any mixture runs.

Dimensions: B = utterances, T = encoder frames, G = rows of one layer (groups of frames),
D = channels, H = heads, R = stride.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.masks import (
    ChunkMask,
    attention_mask,
    chunk_masks,
    first_frames,
    repeat_last,
    stride_index,
)
from model_store.depth import STRIDES, DepthSchedule, Segment, check_look_ahead
from model_store.errors import PlanInvalid

POOLED_STRIDES = STRIDES[1:]


class RowHistory(Protocol):
    """A layer's latest rows, which a convolution reads before the new ones."""

    def extend(self, x_BGD: Tensor) -> Tensor:
        """Give as many earlier rows as the convolution reads, then the new ones; keep the last."""
        ...


class RowCache(Protocol):
    """Keys and values of a layer's earlier rows, where an encoder runs chunk by chunk."""

    def attend(self, query_BHGK: Tensor, key_BHGK: Tensor, value_BHGK: Tensor) -> Tensor:
        """Keep the new rows' keys and values; attend to them and to those before; as `query_BHGK`."""
        ...


@dataclass(frozen=True, slots=True)
class RowContext:
    """What a layer's rows stand for; layers with equal segments share one.

    Args:
        cache: what the rows attend to instead of each other under the mask; None for that.
        history: what a causal convolution reads before the rows; None for zeros.

    Shapes:
        stride_index_G: index into `STRIDES` of each row's stride.
        position_G: middle of the row's group, in frames.
        mask_BGG: True where query row (first G) may attend to key row (second G); None for all.
        bias_HGG: added to the scores of query row and key row, before a layer gates it; None for
            backbones without relative positions.
        valid_BG: True where a row begins inside its utterance; None for all.
    """

    stride_index_G: Tensor | int
    position_G: Tensor
    mask_BGG: Tensor | None
    rotary_cos_GR: Tensor | None
    rotary_sin_GR: Tensor | None
    cache: RowCache | None = None
    bias_HGG: Tensor | None = None
    valid_BG: Tensor | None = None
    history: RowHistory | None = None


@dataclass(frozen=True, slots=True)
class LayerRows:
    """The segments that one layer runs over, and what its rows stand for; None: all are skipped."""

    segments: tuple[Segment, ...]
    context: RowContext | None


class StridedLayerNorm(nn.Module):
    """LayerNorm with weights of its own for every stride.

    Shapes:
        weight_SD, bias_SD: S = `len(STRIDES)`.
    """

    def __init__(self, dim: int, *, bias: bool, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight_SD = nn.Parameter(torch.ones(len(STRIDES), dim))
        self.bias_SD = nn.Parameter(torch.zeros(len(STRIDES), dim)) if bias else None

    def forward(self, x_BGD: Tensor, stride_index_G: Tensor | int) -> Tensor:
        """Normalise each row with its stride's weights."""
        dim = x_BGD.shape[-1:]
        if isinstance(stride_index_G, int):
            bias_D = None if self.bias_SD is None else self.bias_SD[stride_index_G]
            return F.layer_norm(x_BGD, dim, self.weight_SD[stride_index_G], bias_D, self.eps)
        normed_BGD = F.layer_norm(x_BGD, dim, eps=self.eps) * self.weight_SD[stride_index_G]
        return normed_BGD if self.bias_SD is None else normed_BGD + self.bias_SD[stride_index_G]


class Bypass(nn.Module):
    """What stands in for a skipped layer: LayerNorm, down, GELU, up; identity before training."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, bias=False)
        self.down = nn.Linear(dim, rank)
        self.up = nn.Linear(rank, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return x plus the small change."""
        return x_BTD + self.change(x_BTD)

    def change(self, x_BTD: Tensor) -> Tensor:
        """Return the small change alone."""
        return self.up(F.gelu(self.down(self.norm(x_BTD))))


class ElasticLayer(nn.Module):
    """A block that runs at any stride, or is skipped.

    Args:
        block: the backbone's layer.
        dim: channels.
        bypass_rank: inner width of the bypass; 0 for none, so that skipping is the identity.
        final_norm: normalises every frame after the layer, whether it ran or was skipped; None for
            backbones whose layers end without.
    """

    def __init__(
        self, block: nn.Module, dim: int, bypass_rank: int, final_norm: nn.LayerNorm | None = None
    ) -> None:
        super().__init__()
        self.block = block
        self.pool_RD = nn.ParameterDict(
            {str(r): nn.Parameter(torch.full((r, dim), 1 / r)) for r in POOLED_STRIDES}
        )
        self.give_RD = nn.ParameterDict(
            {str(r): nn.Parameter(torch.ones(r, dim)) for r in POOLED_STRIDES}
        )
        self.bypass = Bypass(dim, bypass_rank) if bypass_rank else None
        self.final_norm = final_norm

    def forward(self, x_BTD: Tensor, rows: LayerRows) -> Tensor:
        """Run the layer over the segments of one utterance batch, or of utterances side by side.

        Args:
            x_BTD: frames; those past an utterance's end repeat its last one.
            rows: segments that tile [0, T), and the rows that those with a stride make.
        """
        y_BTD = self._changed(x_BTD, rows)
        return y_BTD if self.final_norm is None else self.final_norm(y_BTD)

    def _changed(self, x_BTD: Tensor, rows: LayerRows) -> Tensor:
        if rows.context is None:
            return x_BTD if self.bypass is None else self.bypass(x_BTD)
        if all(part.stride == 1 for part in rows.segments):
            return self.block(x_BTD, rows.context)
        running = [part for part in rows.segments if part.stride]
        pooled_BGD = torch.cat(
            [self.pooled(x_BTD[:, p.start_frame : p.end_frame], p.stride) for p in running], dim=1
        )
        change_BGD = self.block(pooled_BGD, rows.context) - pooled_BGD
        return x_BTD + self._give_back(change_BGD, rows.segments, x_BTD)

    def pooled(self, x_BND: Tensor, stride: int) -> Tensor:
        """Give the rows of frames; the last group is completed by its last frame."""
        if stride == 1:
            return x_BND
        missing = -x_BND.shape[1] % stride
        if missing:
            x_BND = torch.cat([x_BND, x_BND[:, -1:].expand(-1, missing, -1)], dim=1)
        batch, frames, dim = x_BND.shape
        x_BGRD = x_BND.view(batch, frames // stride, stride, dim)
        return (x_BGRD * self.pool_RD[str(stride)]).sum(dim=2)

    def _give_back(
        self, change_BGD: Tensor, segments: tuple[Segment, ...], x_BTD: Tensor
    ) -> Tensor:
        parts_BND: list[Tensor] = []
        row = 0
        for part in segments:
            frames = part.end_frame - part.start_frame
            if part.stride == 0:
                x_BND = x_BTD[:, part.start_frame : part.end_frame]
                parts_BND.append(
                    torch.zeros_like(x_BND) if self.bypass is None else self.bypass.change(x_BND)
                )
                continue
            rows_BGD = change_BGD[:, row : row + part.num_rows]
            parts_BND.append(self.given(rows_BGD, part.stride, frames))
            row += part.num_rows
        return torch.cat(parts_BND, dim=1)

    def given(self, change_BGD: Tensor, stride: int, num_frames: int) -> Tensor:
        """Give the change of rows to their frames, (B, N, D)."""
        if stride == 1:
            return change_BGD
        change_BGRD = change_BGD.unsqueeze(2) * self.give_RD[str(stride)]
        return change_BGRD.flatten(1, 2)[:, :num_frames]


Rotary = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions in frames to cosines and sines."""

RelativeBias = Callable[[Tensor], Tensor]
"""Positions in frames, position_G, to what the scores of each two rows gain, bias_HGG."""


class ElasticStack(nn.Module):
    """The layers of an encoder, each at the stride a schedule gives it.

    Args:
        layers: the backbone's layers, wrapped.
        rotary: gives the rotation of a position, for backbones that rotate queries and keys.
        relative: gives the bias of the distance of two positions, for those that add one.
        look_ahead_frames: what chunks hear of the next one, layer by layer; see `depth.look_ahead`.
    """

    def __init__(
        self,
        layers: list[ElasticLayer],
        rotary: Rotary | None = None,
        relative: RelativeBias | None = None,
        look_ahead_frames: int = 0,
    ) -> None:
        super().__init__()
        self.look_ahead_frames = look_ahead_frames
        self.layers = nn.ModuleList(layers)
        self._rotary = rotary
        # Kept out of the modules: its parameters are the encoder's, under a name of their own.
        self._relative = (relative,)

    def forward(
        self,
        x_BTD: Tensor,
        num_frames_B: Tensor | None,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> Tensor:
        """Run every layer at its stride.

        Args:
            x_BTD: frames from the front end.
            num_frames_B: valid frames of each utterance; None when all T are valid.
            schedule: the plan, or plans along the utterance.
            chunk_frames: a row attends to its own chunk of this many frames and to all before, and
                to what the look-ahead lets it of the next; None for full context. A whole multiple
                of the largest stride in use.

        Raises:
            PlanInvalid: the plan is of another number of layers, a group would straddle a chunk, or
                plans change inside one and there is a look-ahead.
        """
        rows_of = self.rows(x_BTD, num_frames_B, schedule, chunk_frames)
        return self.run(x_BTD, rows_of, repeat_last(num_frames_B, x_BTD))

    def each(
        self,
        x_BTD: Tensor,
        num_frames_B: Tensor | None,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> Iterator[Tensor]:
        """Give the frames after every layer, as `forward` runs them."""
        rows_of = self.rows(x_BTD, num_frames_B, schedule, chunk_frames)
        yield from self.run_each(x_BTD, rows_of, repeat_last(num_frames_B, x_BTD))

    def rows(
        self,
        x_BTD: Tensor,
        num_frames_B: Tensor | None,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> Callable[[int], LayerRows]:
        """Give what each layer of a whole pass runs over, by its index; see `forward`."""
        self.check(schedule, chunk_frames)
        num_frames = x_BTD.shape[1]
        masks = chunk_masks(schedule, num_frames, chunk_frames, self.look_ahead_frames)
        contexts: dict[tuple[tuple[Segment, ...], ChunkMask | None], RowContext] = {}

        def rows_of(layer: int) -> LayerRows:
            segments = schedule.segments(layer, num_frames)
            if segments[0].stride == 0:
                return LayerRows(segments, None)
            mask = masks[layer]
            if (segments, mask) not in contexts:
                first_G = first_frames(segments, x_BTD.device)
                valid_BG = None if num_frames_B is None else first_G < num_frames_B[:, None]
                lengths = num_frames if num_frames_B is None else num_frames_B
                mask_BGG = None if mask is None else mask.of(segments, lengths, x_BTD.device)
                mask_BGG = attention_mask(mask_BGG, valid_BG)
                contexts[segments, mask] = self.context(
                    segments, x_BTD.device, mask_BGG=mask_BGG, valid_BG=valid_BG
                )
            return LayerRows(segments, contexts[segments, mask])

        return rows_of

    def run(
        self,
        x_BTD: Tensor,
        rows_of: Callable[[int], LayerRows],
        repeat_last_BT1: Tensor | None = None,
    ) -> Tensor:
        """Run the layers one after the other.

        Args:
            x_BTD: frames.
            rows_of: gives what each layer runs over, by its index.
            repeat_last_BT1: the frame to read in each frame's place wherever frames are grouped;
                None for itself.
        """
        for states_BTD in self.run_each(x_BTD, rows_of, repeat_last_BT1):
            x_BTD = states_BTD
        return x_BTD

    def run_each(
        self,
        x_BTD: Tensor,
        rows_of: Callable[[int], LayerRows],
        repeat_last_BT1: Tensor | None,
    ) -> Iterator[Tensor]:
        """Give the frames after every layer; see `run`."""
        for index, layer in enumerate(self.layers):
            rows = rows_of(index)
            grouped = any(part.stride > 1 for part in rows.segments)
            if repeat_last_BT1 is not None and grouped:
                x_BTD = x_BTD.gather(1, repeat_last_BT1.expand(-1, -1, x_BTD.shape[2]))
            x_BTD = layer(x_BTD, rows)
            yield x_BTD

    def check(self, schedule: DepthSchedule, chunk_frames: int | None) -> None:
        """Refuse plans that this stack, or a chunk, cannot run.

        Raises:
            PlanInvalid: as in `forward`.
        """
        if schedule.num_layers != len(self.layers):
            raise PlanInvalid(f"expected {len(self.layers)} strides, got {schedule.num_layers}")
        largest = max(max(plan.strides) for _, plan in schedule.parts)
        if chunk_frames is not None and chunk_frames % largest:
            raise PlanInvalid(
                f"expected a chunk in multiples of stride {largest}, got {chunk_frames}"
            )
        if chunk_frames is not None and self.look_ahead_frames:
            check_look_ahead(self.look_ahead_frames, chunk_frames, schedule)

    def context(
        self,
        segments: tuple[Segment, ...],
        device: torch.device,
        *,
        moved_frames: tuple[int, ...] | None = None,
        mask_BGG: Tensor | None = None,
        valid_BG: Tensor | None = None,
    ) -> RowContext:
        """Say what the rows of the segments that run stand for.

        Args:
            segments: places in the frames at hand.
            device: where the rows are.
            moved_frames: by segment, how far its frames lie behind their places; None for nowhere.
            mask_BGG: as in `RowContext`.
            valid_BG: as in `RowContext`.
        """
        moved = moved_frames or (0,) * len(segments)
        running = [(part, by) for part, by in zip(segments, moved, strict=True) if part.stride]
        position_G = torch.cat(
            [
                torch.arange(part.start_frame + by, part.end_frame + by, part.stride, device=device)
                + (part.stride - 1) / 2
                for part, by in running
            ]
        )
        stride_index_G = stride_index([part for part, _ in running], device)
        cos_GR, sin_GR = self._rotary(position_G) if self._rotary else (None, None)
        (relative,) = self._relative
        bias_HGG = relative(position_G) if relative else None
        return RowContext(
            stride_index_G,
            position_G,
            mask_BGG,
            cos_GR,
            sin_GR,
            bias_HGG=bias_HGG,
            valid_BG=valid_BG,
        )
