"""Samples of any rate and channel count to 16 kHz mono."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from model_store.errors import AudioFormatUnsupported, AudioNotFinite

Samples: TypeAlias = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000

MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 384_000
MAX_CHANNELS = 32


def to_mono(samples_FC: Samples, rate_hz: int) -> Samples:
    """Average the channels, once every value is known to be a sane sample.

    Shapes: samples_FC (frames, channels) -> (frames,)

    Raises:
        AudioNotFinite: A value is NaN or infinite.
        AudioFormatUnsupported: Rate or channel count is out of bounds.
    """
    num_channels = samples_FC.shape[1]
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise AudioFormatUnsupported(
            f"expected {MIN_RATE_HZ} to {MAX_RATE_HZ} samples a second, got {rate_hz}"
        )
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise AudioFormatUnsupported(f"expected 1 to {MAX_CHANNELS} channels, got {num_channels}")
    if not np.isfinite(samples_FC).all():
        raise AudioNotFinite("expected finite samples, got NaN or infinity")
    # Clipped before the sum: a float file may hold 1e38, whose sum would not be finite.
    samples_FC = np.clip(samples_FC, -1.0, 1.0)
    return samples_FC[:, 0] if num_channels == 1 else samples_FC.mean(axis=1, dtype=np.float32)


class Resampler:
    """Streams mono samples to 16 kHz; the rate may change on the way (a chained file)."""

    def __init__(self) -> None:
        self._rate_hz = SAMPLE_RATE_HZ
        self._stream: soxr.ResampleStream | None = None

    def push(self, samples: Samples, rate_hz: int) -> Samples:
        """Return what can be computed so far; the filter holds back a few milliseconds."""
        before: list[Samples] = []
        if rate_hz != self._rate_hz:
            before.append(self.finish())
            self._rate_hz = rate_hz
            if rate_hz != SAMPLE_RATE_HZ:
                self._stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
        return np.concatenate([*before, self._resample(samples, last=False)])

    def finish(self) -> Samples:
        """Return what the filter still holds; the next push starts a new stream."""
        rest = self._resample(np.zeros(0, np.float32), last=True)
        self._rate_hz, self._stream = SAMPLE_RATE_HZ, None
        return rest

    def _resample(self, samples: Samples, *, last: bool) -> Samples:
        if self._stream is None:
            return samples
        # The filter overshoots a little at edges of full scale.
        return np.clip(self._stream.resample_chunk(samples, last=last), -1.0, 1.0)
