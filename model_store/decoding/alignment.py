"""Word times from cross-attention: the heads that look at what is being said, and a monotone path.

Dimensions: U = tokens, P = pooled encoder frames, H = watched heads.

Source: Radford et al., Whisper, arXiv 2212.04356, and its `timing.py` (MIT): normalise the
weights of alignment heads, average them, find the cheapest monotone path.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

LEAST_WORD_S = 0.04
"""Seconds that a word is given at least; two of them may share one frame of the path."""


@dataclass(frozen=True, slots=True)
class AlignmentHeads:
    """Heads whose cross-attention follows the audio, by decoder layer.

    Args:
        by_layer: decoder layer to the heads in it.
        end_offset_s: mean distance of a path's end of a token from the true one; subtracted.
    """

    by_layer: Mapping[int, Sequence[int]]
    end_offset_s: float = 0.0


def alignment_heads(decoding: Mapping[str, Any]) -> AlignmentHeads | None:
    """Read the heads that `decoding.json` names, where it does."""
    by_layer = decoding.get("alignment_heads")
    if not by_layer:
        return None
    heads = {int(layer): tuple(found) for layer, found in by_layer.items()}
    return AlignmentHeads(heads, decoding.get("end_offset_s", 0.0))


def token_spans(weights_HUP: Array) -> list[tuple[int, int]]:
    """Give first and one past the last pooled frame of each token.

    Args:
        weights_HUP: cross-attention weights while predicting each token, of one utterance, with
            the rows past its end cut off.
    """
    cost_UP = -_sharpened(weights_HUP)
    frames_U = monotone_path(cost_UP)
    ends = [*frames_U[1:], cost_UP.shape[1]]
    return [
        (int(start), max(int(start) + 1, int(end)))
        for start, end in zip(frames_U, ends, strict=True)
    ]


def monotone_path(cost_UP: Array) -> npt.NDArray[np.int64]:
    """Give each token's first frame on the cheapest path that never goes back (time warping).

    Each step goes to the next frame, the next token, or both.
    """
    tokens, frames = cost_UP.shape
    total = np.full((tokens + 1, frames + 1), np.inf)
    total[0, 0] = 0
    # Along a token, the cheapest way to a frame enters at some frame and pays for all from there on.
    paid_UP = cost_UP.cumsum(axis=1, dtype=np.float64)
    for token in range(tokens):
        entered_P = np.minimum(total[token, :-1], total[token, 1:])
        before_P = entered_P - (paid_UP[token] - cost_UP[token])
        total[token + 1, 1:] = paid_UP[token] + np.minimum.accumulate(before_P)
    step = np.stack([total[:-1, :-1], total[:-1, 1:], total[1:, :-1]]).argmin(0)
    first = np.zeros(tokens, np.int64)
    token, frame = tokens, frames
    while token > 0:
        first[token - 1] = frame - 1
        choice = step[token - 1, frame - 1]
        token, frame = token - int(choice != 2), frame - int(choice != 1)  # noqa: PLR2004
    return first


def separated(bound_s: Sequence[float], audio_s: float) -> list[float]:
    """Move the bounds of words that follow each other apart, as little as gives each a duration.

    Args:
        bound_s: the first word's start, then each word's end; never falling.
        audio_s: the last end there may be.

    Returns:
        bounds in [0, audio_s], rising by `LEAST_WORD_S` or more where there is room for that.
    """
    after = len(bound_s) - 1
    least_s = min(LEAST_WORD_S, audio_s / after)
    moved_s = [max(0.0, bound_s[0])]
    for bound in bound_s[1:]:
        moved_s.append(max(bound, moved_s[-1] + least_s))
    latest_s = [audio_s - (after - index) * least_s for index in range(after + 1)]
    return [max(0.0, min(pair)) for pair in zip(moved_s, latest_s, strict=True)]


def _sharpened(weights_HUP: Array) -> Array:
    mean = weights_HUP.mean(axis=1, keepdims=True)
    spread = weights_HUP.std(axis=1, keepdims=True) + 1e-6
    return ((weights_HUP - mean) / spread).mean(axis=0).astype(np.float32)
