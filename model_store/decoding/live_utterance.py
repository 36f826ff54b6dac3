"""What is kept of one live utterance, whoever runs it; needs no torch.

Dimensions: S = samples at 16 kHz.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from model_store.decoding.live import DecoderCall, LiveTranscript
from model_store.decoding.reading import Decoded, DecodedWord
from model_store.depth import DepthPlan, LayerTurn

Samples = npt.NDArray[np.float32]

FULL_SCALE = 32_767
"""Of the 16-bit samples that a second pass hears again."""


@dataclass(frozen=True, slots=True)
class Framing:
    """Which samples a frame reads: frame t those from `step * t` on, `receptive` of them."""

    step: int
    receptive: int

    def samples_of(self, num_frames: int) -> int:
        """Count the samples that this many frames from the start read."""
        return self.step * (num_frames - 1) + self.receptive if num_frames else 0

    def frames_in(self, num_samples: int) -> int:
        """Count the frames that this many samples from the start complete."""
        return max(0, (num_samples - self.receptive) // self.step + 1)


class Rows(Protocol):
    """Keys and values of one layer, or of the audio."""

    @property
    def num_rows(self) -> int: ...  # noqa: D102 rows there are


class FrontEnd(Protocol):
    """What the front end keeps."""

    @property
    def num_frames(self) -> int: ...  # noqa: D102 frames made


class EncoderSide(Protocol):
    """What an encoder keeps."""

    @property
    def front_end(self) -> FrontEnd: ...  # noqa: D102
    @property
    def layers(self) -> Sequence[Rows]: ...  # noqa: D102
    @property
    def num_final_frames(self) -> int: ...  # noqa: D102 that no later audio changes
    @property
    def waits(self) -> bool: ...  # noqa: D102 whether frames wait, so that their end costs something
    @property
    def num_bytes(self) -> int: ...  # noqa: D102 of caches and tails

    def turns(self, plan: DepthPlan, num_frames: int, *, ended: bool) -> Sequence[LayerTurn]:
        """Say what each layer would do with a chunk, or with an utterance's end."""
        ...


class DecoderSide(Protocol):
    """What a decoder keeps."""

    @property
    def memory(self) -> Rows: ...  # noqa: D102 pooled frames
    @property
    def transcript(self) -> LiveTranscript: ...  # noqa: D102
    @property
    def calls(self) -> list[DecoderCall]: ...  # noqa: D102 since somebody last took them
    @property
    def num_bytes(self) -> int: ...  # noqa: D102 of keys, values and weights


Encoder = TypeVar("Encoder", bound=EncoderSide)
Decoder = TypeVar("Decoder", bound=DecoderSide)


@dataclass(slots=True)
class WholeHearing(Generic[Decoder]):
    """An utterance that is heard again; see `decoding.second_pass`.

    Args:
        decoder: has heard the whole, and writes it.
        plan: that it was encoded at.
        num_samples: silence behind it included.
        first: what an earlier try said.
    """

    decoder: Decoder
    plan: DepthPlan
    num_samples: int
    first: Decoded | None = None


@dataclass(slots=True, eq=False)
class LiveUtterance(Generic[Encoder, Decoder]):
    """Everything kept of one utterance.

    Args:
        encoder, decoder: caches, tails and text.
        waiting: samples that no frame has read to its end yet.
        heard: all samples, 16 bits each, by push.
        whole: how it is heard again, once it has ended.
        ended: whether all that can be said of it is.
    """

    encoder: Encoder
    decoder: Decoder
    waiting: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    heard: list[npt.NDArray[np.int16]] = field(default_factory=list[npt.NDArray[np.int16]])
    num_samples: int = 0
    rows_written: int = 0
    words: tuple[DecodedWord, ...] = ()
    stable_words: int = 0
    whole: WholeHearing[Decoder] | None = None
    ended: bool = False

    @property
    def num_frames(self) -> int:
        """Frames encoded."""
        return self.encoder.front_end.num_frames

    @property
    def writer(self) -> Decoder:
        """What writes its words now."""
        return self.decoder if self.whole is None else self.whole.decoder

    @property
    def writes(self) -> bool:
        """Whether its last words are under way."""
        return self.writer.transcript.feed is not None

    @property
    def state_bytes(self) -> int:
        """Bytes of caches, tails and samples."""
        samples = self.waiting.nbytes + sum(part.nbytes for part in self.heard)
        again = 0 if self.whole is None else self.whole.decoder.num_bytes
        return samples + self.encoder.num_bytes + self.decoder.num_bytes + again

    def push(self, samples: Samples) -> None:
        """Take further samples."""
        if not len(samples):
            return
        self.waiting = np.concatenate([self.waiting, samples])
        scaled = np.rint(np.clip(samples, -1.0, 1.0) * FULL_SCALE)
        self.heard.append(scaled.astype(np.int16))
        self.num_samples += len(samples)

    def take(self, num_samples: int) -> Samples:
        """Give the next samples, which frames now read."""
        taken, self.waiting = self.waiting[:num_samples], self.waiting[num_samples:].copy()
        return taken

    def all_samples(self, silence: int = 0) -> Samples:
        """Give the whole utterance again, and so many samples of silence behind it."""
        parts = [*self.heard, np.zeros(silence, np.int16)]
        return np.concatenate(parts).astype(np.float32) / np.float32(FULL_SCALE)
