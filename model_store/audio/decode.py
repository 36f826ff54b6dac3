"""Any audio file to blocks of 16 kHz mono float32, in memory that does not grow with the file.

libsndfile reads the uncompressed formats and flac; libavformat (PyAV) reads everything else, ogg
and mp3 included: measured on one core it decodes Opus 3.5 times faster than libsndfile, it goes on
into the second link of a chained ogg, and libmpg123 writes a caller's broken mp3 to our stderr.
"""

import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import soundfile

from model_store.audio.containers import (
    HEAD_BYTES,
    Container,
    flac_samples,
    recognise,
    refuse_broken_promises,
)
from model_store.audio.packets import decode_packets
from model_store.audio.resample import SAMPLE_RATE_HZ, Resampler, to_mono
from model_store.errors import (
    AudioEmpty,
    AudioError,
    AudioTooLong,
    AudioTruncated,
    AudioUndecodable,
)

__all__ = ["SAMPLE_RATE_HZ", "AudioSource", "open_audio"]

AudioSource: TypeAlias = BinaryIO | Path | bytes
"""A file's path, its bytes, or an open binary file that can seek; the latter is not closed."""

Samples: TypeAlias = npt.NDArray[np.float32]

BLOCK_S = 10.0
_READ_VALUES = 2**20  # 4 MB of float32 at a time, however many channels there are

_ROUNDING_S = 1e-6  # what adding up many block lengths may be off

# What libsndfile may open: it also guesses at formats without a proper magic number.
_PLAIN_FORMATS = frozenset(
    {"AIFF", "AU", "CAF", "FLAC", "RF64", "W64", "WAV", "WAVEX"},
)


def open_audio(source: AudioSource, *, max_s: float) -> Iterator[Samples]:
    """Decode a file, block by block.

    Nothing is read before the first block is asked for. Channels are averaged, samples clipped
    to [-1, 1].

    Args:
        source: A path, the file's bytes, or a binary file that can seek.
        max_s: Seconds of audio that may be decoded.

    Returns:
        Blocks of 16 kHz mono float32, about 10 s each; together they are the whole file.

    Raises:
        AudioEmpty: No bytes, or no samples.
        AudioTruncated: The container promises more than its bytes hold.
        AudioTooLong: The header promises, or decoding reached, more than `max_s`.
        AudioNotFinite: A sample is NaN or infinite.
        AudioFormatUnsupported: The sample rate, channels or size of the header are out of bounds.
        AudioUndecodable: Anything else that is not audio.
    """
    with _opened(source) as file:
        resampler = Resampler()
        pending: list[Samples] = []
        num_pending, total_s = 0, 0.0
        for block in _decoded(file, max_s):
            total_s += len(block.samples) / block.rate_hz
            if total_s > max_s + _ROUNDING_S:
                raise AudioTooLong(max_s)
            piece = resampler.push(block.samples, block.rate_hz)
            pending.append(piece)
            num_pending += len(piece)
            if num_pending >= BLOCK_S * SAMPLE_RATE_HZ:
                yield np.concatenate(pending)
                pending, num_pending = [], 0
        if not total_s:
            raise AudioEmpty("expected samples, got a container without any")
        pending.append(resampler.finish())
        last = np.concatenate(pending)
        if len(last):
            yield last


def read_audio(source: AudioSource, *, max_s: float = 3600.0) -> Samples:
    """Decode a whole file at once, which is for short ones; arguments and errors as `open_audio`."""
    return np.concatenate(list(open_audio(source, max_s=max_s)))


class _Seekable:
    """A file as libsndfile sees it: damaged headers make it seek before the start, which is no place.

    It asks where a seek ended, so the start is answer enough; an exception in its callback would
    go to our stderr instead of to us.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._file.tell()}.get(whence)
        if base is None:
            base = self._file.seek(0, io.SEEK_END)
        return self._file.seek(max(0, base + offset))

    def tell(self) -> int:
        return self._file.tell()

    def read(self, num_bytes: int = -1) -> bytes:
        return self._file.read(num_bytes)


class _Block(NamedTuple):
    samples: Samples
    rate_hz: int


@contextmanager
def _opened(source: AudioSource) -> Generator[BinaryIO]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    else:
        yield source


def _decoded(file: BinaryIO, max_s: float) -> Iterator[_Block]:
    length_bytes = file.seek(0, io.SEEK_END)
    if not length_bytes:
        raise AudioEmpty("expected an audio file, got 0 bytes")
    file.seek(0)
    head = file.read(HEAD_BYTES)
    container = recognise(head)
    refuse_broken_promises(file, container, length_bytes)
    file.seek(0)
    plain = _open_plain(file, container, head)
    if plain is None:
        packets = decode_packets(file, max_s)
        yield from (_Block(samples, rate_hz) for samples, rate_hz in packets)
        return
    with plain:
        yield from _read_plain(plain, file, length_bytes, max_s)


def _open_plain(file: BinaryIO, container: Container, head: bytes) -> soundfile.SoundFile | None:
    """Open with libsndfile what it reads best; None leaves the file to libavformat."""
    if container not in {Container.WAV, Container.FLAC, Container.PLAIN}:
        return None
    if container is Container.FLAC and not flac_samples(head):
        return None  # libsndfile cannot read a streamed flac: "Internal psf_fseek() failed"
    try:
        opened = soundfile.SoundFile(cast("BinaryIO", _Seekable(file)))
    except soundfile.SoundFileError:
        file.seek(0)
        return None  # for example mp3 inside a wav, which libavformat knows
    if container is Container.WAV and not opened.frames:
        opened.close()
        file.seek(0)
        return None  # a streamed wav that says 0: libavformat reads on to the end
    if opened.format not in _PLAIN_FORMATS:
        opened.close()
        raise AudioUndecodable(f"expected audio, got a file that reads as {opened.format!r}")
    return opened


def _read_plain(
    plain: soundfile.SoundFile, file: BinaryIO, length_bytes: int, max_s: float
) -> Iterator[_Block]:
    rate_hz, num_expected = plain.samplerate, plain.frames
    num_frames = max(1, min(_READ_VALUES // plain.channels, int(BLOCK_S * rate_hz)))
    num_read = 0
    try:
        if num_expected > max_s * rate_hz:
            raise AudioTooLong(max_s)
        buffer_FC = np.empty((num_frames, plain.channels), np.float32)
        while num_new := plain.buffer_read_into(buffer_FC, "float32"):
            num_read += num_new
            yield _Block(to_mono(buffer_FC[:num_new], rate_hz), rate_hz)
    except soundfile.SoundFileError as error:
        raise _broken_off(num_expected, num_read, at_end=file.tell() >= length_bytes) from error
    if num_read < num_expected:
        raise _broken_off(num_expected, num_read, at_end=True)


def _broken_off(num_expected: int, num_read: int, *, at_end: bool) -> AudioError:
    kind = AudioTruncated if at_end else AudioUndecodable
    return kind(f"expected {num_expected} samples, got {num_read} that decode")
