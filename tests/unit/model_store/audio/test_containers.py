import io
import struct

import pytest

from model_store.audio.containers import (
    HEAD_BYTES,
    Container,
    flac_samples,
    recognise,
    refuse_broken_promises,
)
from model_store.errors import AudioFormatUnsupported, AudioTruncated, AudioUndecodable
from tests.audio_kit import encode, tone, write


def check(content: bytes) -> None:
    container = recognise(content[:HEAD_BYTES])
    refuse_broken_promises(io.BytesIO(content), container, len(content))


def box(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def mp4(*boxes: bytes) -> bytes:
    return box(b"ftyp", b"M4A \0\0\0\0") + b"".join(boxes)


def sample_table(size_bytes: int, count: int) -> bytes:
    table = box(b"stsz", struct.pack(">III", 0, size_bytes, count))
    return box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", table)))))


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", Container.WAV),
        (b"RIFX\0\0\0\0WAVEfmt ", Container.WAV),
        (b"RF64\xff\xff\xff\xffWAVEds64", Container.WAV),
        (b"RIFF\0\0\0\0AVI LIST", Container.OTHER),
        (b"fLaC\0\0\0\x22", Container.FLAC),
        (b"FORM\0\0\0\0AIFFCOMM", Container.PLAIN),
        (b"FORM\0\0\0\x008SVXVHDR", Container.OTHER),
        (b".snd\0\0\0\x18", Container.PLAIN),
        (b"\0\0\0\x1cftypM4A ", Container.MP4),
        (b"\x1a\x45\xdf\xa3\x9f", Container.MATROSKA),
        (b"OggS\0\x02", Container.OTHER),
        (b"ID3\x04", Container.OTHER),
        (b"", Container.OTHER),
    ],
)
def test_a_container_is_known_by_its_first_bytes(head: bytes, container: Container) -> None:
    assert recognise(head) is container


def test_a_flac_says_how_many_samples_it_has() -> None:
    assert flac_samples(write(tone(2), 16_000, "FLAC")) == 32_000
    assert flac_samples(encode(tone(1, 48_000), "flac", "flac", live=True)) == 0


def test_whole_files_keep_their_promises() -> None:
    at_48k = tone(1, 48_000)

    check(write(at_48k, 48_000, "WAV", "PCM_16"))
    check(write(at_48k, 48_000, "RF64", "PCM_16"))
    check(write(at_48k, 48_000, "FLAC", "PCM_16"))
    check(encode(at_48k, "ipod", "aac"))
    check(encode(at_48k, "webm", "libopus"))
    check(encode(at_48k, "webm", "libopus", live=True))


def test_a_wav_that_claims_a_gigabyte_is_truncated() -> None:
    content = bytearray(write(tone(1), 16_000, "WAV", "PCM_16"))
    at = content.index(b"data") + 4
    content[at : at + 4] = (2**30).to_bytes(4, "little")

    with pytest.raises(AudioTruncated, match=r"expected \d+ bytes of wav data, got 32000"):
        check(bytes(content))


def test_a_wav_that_ends_before_its_data_is_truncated() -> None:
    with pytest.raises(AudioTruncated, match="data chunk"):
        check(write(tone(1), 16_000, "WAV", "PCM_16")[:36])


def test_a_wav_of_nothing_but_empty_chunks_is_given_up() -> None:
    with pytest.raises(AudioUndecodable, match="data chunk"):
        check(b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 20_000)


def test_a_flac_that_promises_more_than_fits_is_truncated() -> None:
    content = bytearray(write(tone(1), 16_000, "FLAC"))
    content[22:26] = b"\xff\xff\xff\xff"

    with pytest.raises(AudioTruncated, match="flac frames"):
        check(bytes(content))


def test_an_mp4_without_its_index_is_truncated() -> None:
    with pytest.raises(AudioTruncated, match="moov"):
        check(mp4(box(b"mdat", bytes(1000))))


def test_an_mp4_box_that_claims_an_exabyte_is_truncated() -> None:
    with pytest.raises(AudioTruncated, match="mp4 box"):
        check(mp4(struct.pack(">I4sQ", 1, b"mdat", 2**60)))


def test_an_mp4_box_smaller_than_its_header_is_undecodable() -> None:
    with pytest.raises(AudioUndecodable, match="got one of 4 bytes"):
        check(mp4(struct.pack(">I4s", 4, b"free")))


def test_an_mp4_index_that_claims_more_bytes_than_the_file_is_truncated() -> None:
    with pytest.raises(AudioTruncated, match="sample table"):
        check(mp4(sample_table(1000, 20_000_000)))


def test_an_mp4_index_of_many_tiny_samples_is_refused() -> None:
    content = mp4(sample_table(1, 5_000_000), box(b"mdat", bytes(5_000_000)))

    with pytest.raises(AudioFormatUnsupported, match="packets in the mp4, got 5000000"):
        check(content)


def test_fragments_of_many_claimed_samples_are_refused() -> None:
    run = box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, 1_500_000))))

    with pytest.raises(AudioFormatUnsupported, match="packets in the mp4, got 4500000"):
        check(mp4(box(b"moov"), run, run, run))


def test_an_mp4_header_of_many_megabytes_is_refused() -> None:
    with pytest.raises(AudioFormatUnsupported, match="mp4 header"):
        check(mp4(box(b"moov", box(b"free", bytes(33 * 2**20)))))


def test_mp4_boxes_inside_each_other_come_to_an_end() -> None:
    nested = b""
    for _ in range(5_000):
        nested = box(b"moov", nested)

    with pytest.raises(AudioUndecodable, match="deep"):
        check(mp4(nested))


def test_a_matroska_of_unknown_size_or_odd_layout_is_left_to_the_decoder() -> None:
    check(b"\x1a\x45\xdf\xa3\xff" + bytes(100))
    check(b"\x1a\x45\xdf\xa3\x80\xec\x80" + bytes(100))


def test_a_matroska_cut_in_its_first_element_is_truncated() -> None:
    with pytest.raises(AudioTruncated, match="matroska"):
        check(b"\x1a\x45\xdf\xa3\x9f\x42")
