"""What a container promises before anything is decoded, and whether its bytes can hold it.

The decoders forgive too much here: libsndfile quietly shortens a wav that was cut, and libavformat
builds an index of 24 bytes for every sample that an mp4 merely claims to have. So the few fields
that matter are read by hand, with a bounded number of small reads.
"""

import struct
from collections.abc import Iterator
from enum import Enum, auto
from typing import BinaryIO, NamedTuple

from model_store.errors import AudioFormatUnsupported, AudioTruncated, AudioUndecodable

HEAD_BYTES = 64  # enough for every magic number and for the whole STREAMINFO block of a flac

# A writer that cannot seek back leaves a size like 0xFFFFFFFF (ffmpeg), 0x7FFFF000 (sox) or
# 0x80000000 (arecord) in the header: the true length is unknown, the audio goes on to the end.
_WAV_UNKNOWN_LENGTH_BYTES = 0x7FFF_0000
# Some writers count their own header or a pad byte as data.
_WAV_SLACK_BYTES = 64

# Four hours of 192 kHz AAC are 2.7 million samples ("sample" = one packet in mp4).
_MP4_MAX_SAMPLES = 4_000_000
_MP4_MAX_HEADER_BYTES = 32 * 2**20
_MP4_MAX_BOXES = 500_000
_MP4_MAX_DEPTH = 8  # moov/trak/mdia/minf/stbl and moof/traf, with room to spare
_MP4_PARENTS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})

_RIFF_MAX_CHUNKS = 10_000
_RIFF_HEADER_BYTES = 8
_RF64_SIZE_ELSEWHERE = 0xFFFF_FFFF
_STREAMINFO_BYTES = 34
_EBML_HEADER_ID = 0x1A45DFA3
_EBML_SEGMENT_ID = 0x18538067


class Container(Enum):
    """The kinds that are told apart; everything else is `OTHER` and left to libavformat."""

    WAV = auto()
    FLAC = auto()
    PLAIN = auto()
    """aiff, au, caf, w64: uncompressed, and read by libsndfile."""
    MP4 = auto()
    MATROSKA = auto()
    OTHER = auto()


def recognise(head: bytes) -> Container:
    """Tell the container by its first `HEAD_BYTES` bytes."""
    magic, form = head[:4], head[8:12]
    if magic in {b"RIFF", b"RIFX", b"RF64"}:
        return Container.WAV if form == b"WAVE" else Container.OTHER
    if magic == b"fLaC":
        return Container.FLAC
    if magic in {b".snd", b"caff", b"riff"} or (magic == b"FORM" and form[:3] == b"AIF"):
        return Container.PLAIN
    if head[4:8] in {b"ftyp", b"moov", b"moof", b"styp"}:
        return Container.MP4
    return Container.MATROSKA if magic == b"\x1a\x45\xdf\xa3" else Container.OTHER


def refuse_broken_promises(file: BinaryIO, container: Container, length_bytes: int) -> None:
    """Raise when the header speaks of more than `length_bytes` of file can hold.

    Raises:
        AudioTruncated: The container was cut, or its header lies.
        AudioFormatUnsupported: The header alone would take more memory than an upload may.
    """
    if container is Container.WAV:
        _check_wav(file, length_bytes)
    elif container is Container.FLAC:
        _check_flac(file, length_bytes)
    elif container is Container.MP4:
        _check_mp4(file, length_bytes)
    elif container is Container.MATROSKA:
        _check_matroska(file, length_bytes)


def flac_samples(head: bytes) -> int:
    """Return the samples per channel that a flac promises, 0 = unknown (it was streamed)."""
    return int.from_bytes(head[18:26], "big") & (2**36 - 1)


def _check_wav(file: BinaryIO, length_bytes: int) -> None:
    endian = ">" if _read(file, 0, 4) == b"RIFX" else "<"
    long_bytes: int | None = None  # RF64 keeps the true size of its data in ds64
    position = 12
    for _ in range(_RIFF_MAX_CHUNKS):
        header = _read(file, position, _RIFF_HEADER_BYTES)
        if len(header) < _RIFF_HEADER_BYTES:
            raise AudioTruncated("expected a data chunk in the wav, got the end of the file")
        name, size_bytes = struct.unpack(f"{endian}4sI", header)
        body = position + _RIFF_HEADER_BYTES
        if name == b"ds64":
            long_bytes = struct.unpack("<Q", _read(file, body + 8, 8).ljust(8, b"\0"))[0]
        if name == b"data":
            _check_wav_data(size_bytes, long_bytes, length_bytes - body)
            return
        position = body + size_bytes + (size_bytes & 1)
    raise AudioUndecodable(f"expected a data chunk among {_RIFF_MAX_CHUNKS} chunks, got none")


def _check_wav_data(size_bytes: int, long_bytes: int | None, available_bytes: int) -> None:
    if long_bytes and size_bytes == _RF64_SIZE_ELSEWHERE:
        size_bytes = long_bytes
    elif size_bytes >= _WAV_UNKNOWN_LENGTH_BYTES:
        return
    _expect_bytes("wav data", size_bytes - _WAV_SLACK_BYTES, available_bytes)


def _check_flac(file: BinaryIO, length_bytes: int) -> None:
    """Compare the promised samples with the smallest frames they could be packed in.

    Source: RFC 9639, section 8.2 (STREAMINFO).
    """
    info = _read(file, 8, _STREAMINFO_BYTES)
    if len(info) < _STREAMINFO_BYTES:
        raise AudioTruncated(
            f"expected {_STREAMINFO_BYTES} bytes of stream info in the flac, got {len(info)}"
        )
    max_block_samples = int.from_bytes(info[2:4], "big")
    min_frame_bytes = int.from_bytes(info[4:7], "big")
    num_samples = flac_samples(_read(file, 0, HEAD_BYTES))
    if max_block_samples:
        num_frames = -(-num_samples // max_block_samples)
        # The last frame may be shorter than the smallest whole one.
        _expect_bytes("flac frames", (num_frames - 1) * min_frame_bytes, length_bytes - 42)


class _Box(NamedTuple):
    """One box of an mp4 (ISO/IEC 14496-12, section 4.2); `end` is what it claims."""

    name: bytes
    body: int
    end: int


def _check_mp4(file: BinaryIO, length_bytes: int) -> None:
    has_header, num_samples = False, 0
    for count, box in enumerate(_boxes(file, 0, length_bytes)):
        if count > _MP4_MAX_BOXES:
            raise AudioFormatUnsupported(f"expected at most {_MP4_MAX_BOXES} mp4 boxes, got more")
        has_header |= box.name == b"moov"
        if box.name in {b"moov", b"moof"} and box.end - box.body > _MP4_MAX_HEADER_BYTES:
            raise AudioFormatUnsupported(
                f"expected an mp4 header of at most {_MP4_MAX_HEADER_BYTES} bytes, got more"
            )
        num_samples += _claimed_samples(file, box, length_bytes)
        if num_samples > _MP4_MAX_SAMPLES:
            raise AudioFormatUnsupported(
                f"expected at most {_MP4_MAX_SAMPLES} packets in the mp4, got {num_samples}"
            )
    if not has_header:
        raise AudioTruncated("expected a moov box in the mp4, got the end of the file")


def _boxes(file: BinaryIO, start: int, stop: int, depth: int = 0) -> Iterator[_Box]:
    """Walk the boxes between two offsets, parents before their children."""
    if depth > _MP4_MAX_DEPTH:
        raise AudioUndecodable(f"expected mp4 boxes at most {_MP4_MAX_DEPTH} deep, got deeper")
    position = start
    while position + 8 <= stop:
        size_bytes, name = struct.unpack(">I4s", _read(file, position, 8))
        body = position + 8
        if size_bytes == 1:
            size_bytes = int.from_bytes(_read(file, body, 8), "big")
            body += 8
        end = stop if size_bytes == 0 else position + size_bytes
        if end < body:
            raise AudioUndecodable(f"expected an mp4 box, got one of {size_bytes} bytes")
        _expect_bytes("mp4 box", end - position, stop - position)
        yield _Box(name, body, end)
        if name in _MP4_PARENTS:
            yield from _boxes(file, body, end, depth + 1)
        position = end


def _claimed_samples(file: BinaryIO, box: _Box, length_bytes: int) -> int:
    """Return how many samples a box claims without spending bytes on each of them.

    That is an stsz with one size for all, and a trun (a fragment's run of packets).
    """
    if box.name == b"trun":
        return int.from_bytes(_read(file, box.body + 4, 4), "big")
    if box.name != b"stsz":
        return 0
    size_bytes, count = struct.unpack(">II", _read(file, box.body + 4, 8).ljust(8, b"\0"))
    _expect_bytes("mp4 sample table", size_bytes * count, length_bytes)
    return count if size_bytes else 0


def _check_matroska(file: BinaryIO, length_bytes: int) -> None:
    """Compare the segment's size with the file; a recorder that cannot seek leaves it unknown.

    Source: RFC 8794, section 4 (variable-size integers) and 6 (elements).
    """
    position = 0
    for expected_id in (_EBML_HEADER_ID, _EBML_SEGMENT_ID):
        if int.from_bytes(_read(file, position, 4), "big") != expected_id:
            return  # not laid out as recorders do; the decoder will have its say
        first = _read(file, position + 4, 1)
        width_bytes = 9 - first[0].bit_length() if first else 9
        body = position + 4 + width_bytes
        value_mask = (1 << (7 * width_bytes)) - 1
        size_bytes = int.from_bytes(_read(file, position + 4, width_bytes), "big") & value_mask
        if size_bytes == value_mask:
            return
        _expect_bytes("matroska element", size_bytes, length_bytes - body)
        position = body + size_bytes


def _expect_bytes(what: str, expected_bytes: int, available_bytes: int) -> None:
    if expected_bytes > available_bytes:
        raise AudioTruncated(
            f"expected {expected_bytes} bytes of {what}, got {max(0, available_bytes)}"
        )


def _read(file: BinaryIO, position: int, num_bytes: int) -> bytes:
    file.seek(position)
    return file.read(num_bytes)
