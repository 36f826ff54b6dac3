"""Which frames a row stands for, which it reads past an utterance's end, and which it attends to.

Dimensions: B = utterances, T = encoder frames, G = rows of one layer, D = channels.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model_store.depth import STRIDES, DepthSchedule, Segment, frames_behind


def first_frames(segments: tuple[Segment, ...], device: torch.device | None) -> Tensor:
    """Give the first frame of every row of segments that all run, first_G."""
    return torch.cat(
        [torch.arange(p.start_frame, p.end_frame, p.stride, device=device) for p in segments]
    )


def repeat_last(num_frames_B: Tensor | None, x_BTD: Tensor) -> Tensor | None:
    """Give, per frame, the frame to read: itself, or the utterance's last one past its end."""
    if num_frames_B is None:
        return None
    frames_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
    return torch.minimum(frames_T, num_frames_B[:, None] - 1).unsqueeze(-1)


@dataclass(frozen=True, slots=True)
class ChunkMask:
    """Which chunk a layer's rows are heard in, and which they answer in.

    Args:
        chunk_frames: of a chunk.
        heard_behind, answered_behind: by chunk, how far behind its edge the layer hears and answers;
            see `depth.frames_behind`. The last one holds for all that follow.
    """

    chunk_frames: int
    heard_behind: tuple[int, ...]
    answered_behind: tuple[int, ...]

    def of(
        self, segments: tuple[Segment, ...], num_frames_B: Tensor | int, device: torch.device
    ) -> Tensor:
        """Let rows attend to what is heard by the time they answer, mask_BGG; all is when audio ends."""
        first_G = first_frames(segments, device)
        end_G = first_G + torch.cat(
            [torch.full((part.num_rows,), part.stride) for part in segments]
        ).to(first_G)
        # A last chunk that is whole does not know that it is the last: what waits comes after it.
        last_B1 = torch.as_tensor(num_frames_B, device=device).reshape(-1, 1) // self.chunk_frames
        heard_BG = torch.minimum(self._chunk(first_G, end_G, self.heard_behind), last_B1)
        answered_BG = torch.minimum(self._chunk(first_G, end_G, self.answered_behind), last_B1)
        return heard_BG[:, None, :] <= answered_BG[:, :, None]

    def _chunk(self, first_G: Tensor, end_G: Tensor, behind: tuple[int, ...]) -> Tensor:
        own_G = first_G // self.chunk_frames
        behind_C = torch.tensor(behind, device=first_G.device)
        edge_G = (own_G + 1) * self.chunk_frames - behind_C[own_G.clamp(max=len(behind) - 1)]
        return own_G + (end_G > edge_G)


def attention_mask(mask_BGG: Tensor | None, valid_BG: Tensor | None) -> Tensor | None:
    """Say which rows may attend to which: those that a chunk mask lets, inside the utterance."""
    if valid_BG is None:
        return mask_BGG
    return valid_BG.unsqueeze(1) if mask_BGG is None else mask_BGG & valid_BG.unsqueeze(1)


def chunk_masks(
    schedule: DepthSchedule, num_frames: int, chunk_frames: int | None, look_ahead_frames: int
) -> list[ChunkMask | None]:
    """Give the mask of every layer; equal ones where layers hear and answer alike, None for full context."""
    if chunk_frames is None:
        return [None] * schedule.num_layers
    behind = [
        frames_behind(schedule.plan_at(start), look_ahead_frames)
        for start in range(0, num_frames, chunk_frames)
    ]
    layers = list(zip(*behind, strict=True))
    return [ChunkMask(chunk_frames, *pair) for pair in itertools.pairwise(layers)]


def stride_index(segments: Sequence[Segment], device: torch.device | None) -> Tensor | int:
    """Give the index into `STRIDES` of the stride of each row of segments that run; one if all are equal."""
    indices = [STRIDES.index(part.stride) for part in segments]
    if len(set(indices)) == 1:
        return indices[0]
    rows = [part.num_rows for part in segments]
    return torch.tensor(indices, device=device).repeat_interleave(torch.tensor(rows, device=device))
