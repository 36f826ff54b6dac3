"""Which frames a row stands for, which it reads past an utterance's end, and which it attends to.

Dimensions: B = utterances, T = encoder frames, G = rows of one layer, D = channels.
"""

import torch
from torch import Tensor

from model_store.depth import Segment


def first_frames(segments: tuple[Segment, ...], device: torch.device) -> Tensor:
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


def attention_mask(
    first_G: Tensor, valid_BG: Tensor | None, chunk_frames: int | None
) -> Tensor | None:
    """Say which rows may attend to which: those of their own chunk and before, inside the utterance."""
    mask_BGG = None
    if chunk_frames is not None:
        chunk_G = first_G // chunk_frames
        mask_BGG = (chunk_G[:, None] >= chunk_G[None, :]).unsqueeze(0)
    if valid_BG is not None:
        valid_B1G = valid_BG.unsqueeze(1)
        mask_BGG = valid_B1G if mask_BGG is None else mask_BGG & valid_B1G
    return mask_BGG
