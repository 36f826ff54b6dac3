"""Moonshine's front end over a stream: frames as their samples come, nothing computed twice.

Each convolution keeps the inputs that its next output needs and nothing is padded at a chunk's
edge, so the frames are those of the whole utterance under the running norm:

    samples --first--> 4 ms --norm--> 4 ms --second--> 12 ms --third--> frames, 24 ms
    tail 63 samples    sums           tail 4           tail 1

Dimensions: B = streams, S = samples, N = positions, T = frames, D = channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model_store.backbones.moonshine import (
    CONV_STRIDES,
    FRAME_SAMPLES,
    RECEPTIVE_SAMPLES,
    FrontEnd,
    NormSums,
)


def samples_of_frames(num_frames: int) -> int:
    """Samples that this many frames from the start read."""
    return FRAME_SAMPLES * (num_frames - 1) + RECEPTIVE_SAMPLES if num_frames else 0


@dataclass(slots=True)
class FrontEndState:
    """What one stream's front end keeps between two chunks.

    Args:
        num_frames: made so far.
        samples_S, norm_DN, second_DN: inputs that each convolution will read again.
        sums: of the running norm.
    """

    num_frames: int = 0
    samples_S: Tensor = field(default_factory=lambda: torch.zeros(0))
    norm_DN: Tensor | None = None
    second_DN: Tensor | None = None
    sums: NormSums | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of the tails."""
        tails = (self.samples_S, self.norm_DN, self.second_DN)
        return sum(tail.numel() * tail.element_size() for tail in tails if tail is not None)


def advance(
    front_end: FrontEnd, states: Sequence[FrontEndState], samples: Sequence[Tensor]
) -> list[Tensor]:
    """Make the frames that further samples complete; streams with equal needs run together.

    Args:
        front_end: the model's.
        states: one a stream, changed in place.
        samples: of each stream, as many as its next frames need: the difference of
            `samples_of_frames` before and after.

    Returns:
        Frames of each stream, x_TD.
    """
    groups: dict[tuple[bool, int], list[int]] = {}
    for place, (state, new_S) in enumerate(zip(states, samples, strict=True)):
        groups.setdefault((state.num_frames == 0, len(new_S)), []).append(place)
    frames: dict[int, Tensor] = {}
    for places in groups.values():
        together = _advance_alike(
            front_end, [states[p] for p in places], torch.stack([samples[p] for p in places])
        )
        frames |= dict(zip(places, together, strict=True))
    return [frames[place] for place in range(len(states))]


def _advance_alike(
    front_end: FrontEnd, states: Sequence[FrontEndState], new_BS: Tensor
) -> Sequence[Tensor]:
    new_BS = new_BS.to(front_end.conv1.weight.device)
    tail_BS = torch.stack([state.samples_S for state in states]).to(new_BS)
    samples_BS = torch.cat([tail_BS, new_BS], dim=1)
    first_BDN = front_end.first(samples_BS)
    normed_BDN, sums = front_end.running_norm(first_BDN, _sums(states, first_BDN))
    norm_BDN = front_end.scaled(normed_BDN, first_BDN.dtype)
    norm_BDN = _after([state.norm_DN for state in states], norm_BDN)
    second_BDN = front_end.second(norm_BDN)
    second_used = second_BDN.shape[2] * CONV_STRIDES[1]
    second_BDN = _after([state.second_DN for state in states], second_BDN)
    third_BDT = front_end.third(second_BDN)
    num_frames = third_BDT.shape[2]
    for row, state in enumerate(states):
        state.num_frames += num_frames
        # Clones, so that a stream's tail does not keep its neighbours' chunk alive.
        state.samples_S = samples_BS[row, first_BDN.shape[2] * CONV_STRIDES[0] :].clone()
        state.norm_DN = norm_BDN[row, :, second_used:].clone()
        state.second_DN = second_BDN[row, :, num_frames * CONV_STRIDES[2] :].clone()
        state.sums = NormSums(
            *(one[row : row + 1] for one in (sums.seen_B1, sums.mean_B1, sums.square_B1))
        )
    return third_BDT.transpose(1, 2).unbind(0)


def _sums(states: Sequence[FrontEndState], like: Tensor) -> NormSums:
    known = [state.sums for state in states if state.sums is not None]
    if not known:
        return NormSums.none(like)
    return NormSums(
        torch.cat([sums.seen_B1 for sums in known]),
        torch.cat([sums.mean_B1 for sums in known]),
        torch.cat([sums.square_B1 for sums in known]),
    )


def _after(tails: Sequence[Tensor | None], new_BDN: Tensor) -> Tensor:
    known = [tail for tail in tails if tail is not None]
    return torch.cat([torch.stack(known), new_BDN], dim=2) if known else new_BDN
