"""What goes into a step of live streams and what comes out, whoever runs it; needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from model_store.decoding.reading import DecodedWord
from model_store.depth import DepthPlan

Utterance = TypeVar("Utterance")
"""What an engine keeps of one utterance."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Operations of a transcript: all, the encoder's, and all of them had every layer run."""

    total: int
    encoder: int
    full: int


@dataclass(slots=True)
class LiveCost:
    """What a step took for one stream.

    Args:
        flops, encoder_flops: estimated operations.
        full_flops: what the same would have been at full depth.
        encode_s, decode_s: its share of the step's time.
    """

    flops: int = 0
    encoder_flops: int = 0
    full_flops: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0

    def add(self, flops: int, full_flops: int | None = None, *, encoder: bool = False) -> None:
        """Count operations; `full_flops` None where depth makes no difference."""
        self.flops += flops
        self.full_flops += flops if full_flops is None else full_flops
        self.encoder_flops += flops if encoder else 0


@dataclass(frozen=True, slots=True, eq=False)
class LiveRequest(Generic[Utterance]):
    """One stream's share of a step.

    Args:
        utterance: at most once in a step.
        samples: float32 at 16 kHz that follow those it has had; any number, none too.
        plan: of the chunks that these samples complete.
        decode: whether words are asked for; without, the step only encodes.
        ends: nothing follows.
        second_pass: with `ends`, hear the whole again with full context for its words.
        hotwords: that its words may be, from this step on.
    """

    utterance: Utterance
    samples: npt.NDArray[np.float32]
    plan: DepthPlan
    decode: bool = True
    ends: bool = False
    second_pass: bool = False
    hotwords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What a step makes of one stream.

    Args:
        words: so far, times from the utterance's start; those that are not final are rough.
        stable_words: how many, from the first, keep their text.
        encoded_s: seconds that the encoder has taken in.
        cost: of this stream's share.
        done: whether its words are written as far as they can be.
    """

    words: Sequence[DecodedWord]
    stable_words: int
    encoded_s: float
    cost: LiveCost
    done: bool = True
