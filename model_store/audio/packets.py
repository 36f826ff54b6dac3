"""Compressed audio by libavformat and libavcodec (PyAV): ogg, webm, mp4, mp3, aac and the like."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from model_store.audio.resample import to_mono
from model_store.errors import AudioFormatUnsupported, AudioTooLong, AudioUndecodable

if TYPE_CHECKING:
    from av import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Samples: TypeAlias = npt.NDArray[np.float32]

# Playlists (hls, concat, dash) are left out: they would open other files and addresses.
_DEMUXERS = "aac,amr,flac,matroska,mov,mp3,mp4,ogg,wav,webm"
_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
# Formats whose duration is written down; elsewhere (mp3, aac) it is a guess from the bit rate.
_DEMUXERS_WITH_DURATION = frozenset({"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "ogg", "flac"})
_DURATION_SLACK_S = 1.0

_MAX_PACKET_BYTES = 8 * 2**20  # a packet of real audio is under 100 kB
# A recording that begins or ends in the middle has a few broken packets; noise has nothing else.
_MAX_BAD_PACKETS = 16
_MAX_BAD_RATIO = 0.1


def decode_packets(file: BinaryIO, max_s: float) -> Iterator[tuple[Samples, int]]:
    """Decode the first audio track, one packet at a time.

    Returns:
        Mono samples and their rate in Hz, packet by packet.

    Raises:
        AudioTooLong: The container says that it is longer than `max_s`.
        AudioUndecodable: Not one of the formats, no audio track, or too many broken packets.
        AudioFormatUnsupported: A packet, the rate or the channels are out of bounds.
        AudioNotFinite: The decoder gave NaN or infinity.
    """
    import av  # 40 MB of libraries that a wav never needs
    from av.error import FFmpegError

    try:
        with av.open(file, "r", options=_OPTIONS, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioUndecodable("expected an audio track, got none")
            stream = container.streams.audio[0]
            _check_duration(container, stream, max_s)
            yield from _decode_stream(container, stream)
    except FFmpegError as error:
        raise AudioUndecodable(
            "expected a file that decodes as audio, got one that does not"
        ) from error


def _check_duration(container: "InputContainer", stream: "AudioStream", max_s: float) -> None:
    if container.format.name not in _DEMUXERS_WITH_DURATION:
        return
    if stream.duration is not None and stream.time_base is not None:
        duration_s = float(stream.duration * stream.time_base)
    else:
        duration_s = (container.duration or 0) / 1e6  # AV_TIME_BASE is a microsecond
    if duration_s > max_s + _DURATION_SLACK_S:
        raise AudioTooLong(max_s)


def _decode_stream(
    container: "InputContainer", stream: "AudioStream"
) -> Iterator[tuple[Samples, int]]:
    """Gather frames of one shape to a second of audio: a call per 20 ms would cost more than Opus."""
    waiting: list[Samples] = []
    num_waiting, shape = 0, (0, 0)
    for frame in _frames(container, stream):
        samples_FC = _samples(frame)
        new_shape = (frame.sample_rate, samples_FC.shape[1])
        if waiting and (new_shape != shape or num_waiting >= shape[0]):
            yield to_mono(np.concatenate(waiting), shape[0]), shape[0]
            waiting, num_waiting = [], 0
        shape = new_shape
        waiting.append(samples_FC)
        num_waiting += len(samples_FC)
    if waiting:
        yield to_mono(np.concatenate(waiting), shape[0]), shape[0]


def _frames(container: "InputContainer", stream: "AudioStream") -> "Iterator[AudioFrame]":
    from av.error import FFmpegError

    num_packets = num_bad = num_frames = 0
    for packet in container.demux(stream):
        num_packets += 1
        if packet.size > _MAX_PACKET_BYTES:
            raise AudioFormatUnsupported(
                f"expected packets of at most {_MAX_PACKET_BYTES} bytes, got {packet.size}"
            )
        try:
            frames = packet.decode()
        except FFmpegError:
            num_bad += 1
            if num_bad > _MAX_BAD_PACKETS + _MAX_BAD_RATIO * num_packets:
                break
            continue
        num_frames += len(frames)
        yield from frames
    if num_bad > _MAX_BAD_PACKETS + _MAX_BAD_RATIO * num_packets or (num_bad and not num_frames):
        raise AudioUndecodable(
            f"expected packets that decode, got {num_bad} of {num_packets} broken"
        )


def _samples(frame: "AudioFrame") -> Samples:
    """Return a frame as floats in [-1, 1].

    Shapes: (channels, frames) if planar, (1, frames * channels) if packed -> (frames, channels)
    """
    values = frame.to_ndarray()
    values_FC = (
        values.T if frame.format.is_planar else values.reshape(-1, len(frame.layout.channels))
    )
    if values_FC.dtype.kind == "f":
        return values_FC.astype(np.float32, copy=False)
    limits = np.iinfo(values_FC.dtype.name)
    scale = np.float32(2.0 / (limits.max - limits.min + 1))
    offset = np.float32(-1.0 if limits.min == 0 else 0.0)  # unsigned bytes are centred on 128
    return values_FC.astype(np.float32) * scale + offset
