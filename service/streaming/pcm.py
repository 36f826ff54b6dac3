"""Bytes of a stream to samples: three encodings, five rates, and packets cut anywhere."""

from typing import Literal

import numpy as np
import soxr

from service.engine.base import SAMPLE_RATE_HZ, Samples

Encoding = Literal["pcm_s16le", "mulaw", "alaw"]
SampleRate = Literal[8_000, 16_000, 24_000, 44_100, 48_000]

BYTES_PER_SAMPLE: dict[Encoding, int] = {"pcm_s16le": 2, "mulaw": 1, "alaw": 1}
_FULL_SCALE = 2.0**15


class PcmDecoder:
    """Decodes one stream in packets of any length; the result does not depend on how it was cut.

    Args:
        encoding: of the bytes.
        rate_hz: of the samples in them.
    """

    def __init__(self, encoding: Encoding, rate_hz: int) -> None:
        self._width = BYTES_PER_SAMPLE[encoding]
        self._expand = {"pcm_s16le": _linear, "mulaw": _mu_law, "alaw": _a_law}[encoding]
        self._rate_hz = rate_hz
        self._carried = b""
        self._num_unwanted_bytes = 0
        self._resampler = self._new_resampler()

    def push(self, pcm: bytes) -> Samples:
        """Give the samples that are complete; the resampler holds back a few milliseconds."""
        pcm = self._carried + pcm[self._num_unwanted_bytes :]
        self._num_unwanted_bytes = 0
        whole = len(pcm) - len(pcm) % self._width
        self._carried = pcm[whole:]
        return self._resample(self._expand(pcm[:whole]), last=False)

    def skip(self, num_bytes: int) -> Samples:
        """Pass over bytes that were dropped and go on with silence of that length.

        Samples of 16 bits stay in step, however the bytes before and after were cut.
        """
        num_whole, num_begun = divmod(len(self._carried) + num_bytes, self._width)
        self._carried = b""
        self._num_unwanted_bytes = (self._width - num_begun) % self._width
        num_silent = num_whole + bool(num_begun)
        return self._resample(np.zeros(num_silent, np.float32), last=False)

    def finish(self) -> Samples:
        """Give what the resampler still holds; half a sample at the end is nothing."""
        return self._resample(np.zeros(0, np.float32), last=True)

    def _new_resampler(self) -> soxr.ResampleStream | None:
        if self._rate_hz == SAMPLE_RATE_HZ:
            return None
        return soxr.ResampleStream(self._rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")

    def _resample(self, samples: Samples, *, last: bool) -> Samples:
        if self._resampler is None:
            return samples
        # The filter overshoots a little at edges of full scale.
        return np.clip(self._resampler.resample_chunk(samples, last=last), -1.0, 1.0)


def _linear(pcm: bytes) -> Samples:
    return (np.frombuffer(pcm, "<i2") / _FULL_SCALE).astype(np.float32)


def _mu_law(pcm: bytes) -> Samples:
    """Expand mu-law bytes.

    Source: ITU-T G.711, table 2; 14-bit values, brought to 16.
    """
    code = ~np.frombuffer(pcm, np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84
    return _signed(magnitude, negative=code >= 0x80)  # noqa: PLR2004 the sign is the first bit


def _a_law(pcm: bytes) -> Samples:
    """Expand A-law bytes.

    Source: ITU-T G.711, table 1; 13-bit values, brought to 16. Every second bit is inverted.
    """
    code = np.frombuffer(pcm, np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    linear = (mantissa << 4) + 8
    magnitude = np.where(exponent == 0, linear, (linear + 0x100) << np.maximum(exponent - 1, 0))
    return _signed(magnitude, negative=code < 0x80)  # noqa: PLR2004 the sign is the first bit


def _signed(magnitude: np.ndarray, *, negative: np.ndarray) -> Samples:
    return (np.where(negative, -magnitude, magnitude) / _FULL_SCALE).astype(np.float32)
