import io
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.audio import SAMPLE_RATE_HZ, open_audio
from model_store.audio.decode import AudioSource
from model_store.errors import (
    AudioEmpty,
    AudioError,
    AudioFormatUnsupported,
    AudioNotFinite,
    AudioTooLong,
    AudioTruncated,
    AudioUndecodable,
)
from tests.audio_kit import Samples, encode, noise, tone, write

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Three seconds of a tone as people send it."""
    at_48k, at_44k = tone(3, 48_000), tone(3, 44_100)
    return {
        "wav": write(at_44k, 44_100, "WAV", "PCM_16"),
        "wav-24-bit-stereo": write(np.stack([at_48k, at_48k], 1), 48_000, "WAV", "PCM_24"),
        "wav-float": write(at_44k, 44_100, "WAV", "FLOAT"),
        "wav-mu-law": write(tone(3, 8_000), 8_000, "WAV", "ULAW"),
        "wav-live": encode(at_48k, "wav", "pcm_s16le", live=True),
        "rf64": write(at_48k, 48_000, "RF64", "PCM_16"),
        "aiff": write(at_44k, 44_100, "AIFF", "PCM_16"),
        "caf": write(at_44k, 44_100, "CAF", "PCM_16"),
        "flac": write(at_44k, 44_100, "FLAC", "PCM_16"),
        "flac-live": encode(at_48k, "flac", "flac", live=True),
        "mp3": encode(at_48k, "mp3", "libmp3lame", rate_hz=44_100, layout="stereo"),
        "mp3-live": encode(at_48k, "mp3", "libmp3lame", live=True),
        "mp3-from-sndfile": write(at_44k, 44_100, "MP3"),
        "vorbis": write(at_44k, 44_100, "OGG", "VORBIS"),
        "opus": encode(at_48k, "ogg", "libopus"),
        "opus-from-sndfile": write(tone(3), 16_000, "OGG", "OPUS"),
        "opus-live": encode(at_48k, "ogg", "libopus", live=True),
        "webm": encode(at_48k, "webm", "libopus"),
        "webm-live": encode(at_48k, "webm", "libopus", live=True),
        "m4a": encode(at_48k, "ipod", "aac", rate_hz=44_100, layout="stereo"),
        "m4a-header-first": encode(at_48k, "ipod", "aac", movflags="faststart"),
        "m4a-fragments": encode(at_48k, "mp4", "aac", movflags="frag_keyframe+empty_moov"),
        "aac": encode(at_48k, "adts", "aac"),
    }


KINDS = [
    "wav", "wav-24-bit-stereo", "wav-float", "wav-mu-law", "wav-live", "rf64", "aiff", "caf", "flac",
    "flac-live", "mp3", "mp3-live", "mp3-from-sndfile", "vorbis", "opus", "opus-from-sndfile",
    "opus-live", "webm", "webm-live", "m4a", "m4a-header-first", "m4a-fragments", "aac",
]  # fmt: skip


def decode(source: AudioSource, max_s: float = HOUR_S) -> Samples:
    return np.concatenate(list(open_audio(source, max_s=max_s)))


def loudest_hz(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples[SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ]))
    return float(np.argmax(spectrum))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_becomes_16_khz_mono_of_the_same_length(files: dict[str, bytes], kind: str) -> None:
    samples = decode(files[kind])

    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(3.0, abs=0.08)  # mp3 and aac pad
    assert loudest_hz(samples) == pytest.approx(440, abs=3)
    assert np.abs(samples).max() == pytest.approx(0.3, rel=0.4)


def test_all_kinds_are_tried(files: dict[str, bytes]) -> None:
    assert sorted(files) == sorted(KINDS)


def test_a_path_and_an_open_file_decode_as_the_bytes_do(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "no.suffix.that.tells"
    path.write_bytes(files["webm"])
    file = io.BytesIO(files["webm"])

    from_path, from_file = decode(path), decode(file)

    assert not file.closed
    np.testing.assert_array_equal(from_path, decode(files["webm"]))
    np.testing.assert_array_equal(from_file, decode(files["webm"]))


def test_16_khz_mono_comes_through_untouched() -> None:
    samples = noise(1.0, peak=1.0)

    np.testing.assert_array_equal(decode(write(samples, 16_000, "WAV", "FLOAT")), samples)


def test_channels_are_averaged() -> None:
    left, right = noise(1.0, seed=1), noise(1.0, seed=2)

    mono = decode(write(np.stack([left, right], 1), 16_000, "WAV", "FLOAT"))

    np.testing.assert_allclose(mono, (left + right) / 2, atol=1e-6)


def test_long_audio_comes_in_blocks_of_about_ten_seconds() -> None:
    blocks = list(open_audio(write(tone(35, 8_000), 8_000, "WAV", "PCM_U8"), max_s=HOUR_S))

    lengths_s = [len(block) / SAMPLE_RATE_HZ for block in blocks]
    assert sum(lengths_s) == pytest.approx(35, abs=1e-3)
    assert max(lengths_s) <= 20


def test_both_links_of_a_chained_ogg_are_heard(files: dict[str, bytes]) -> None:
    samples = decode(files["opus"] + files["opus"])

    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(6.0, abs=0.05)


def test_tags_that_are_no_utf8_do_not_matter(files: dict[str, bytes]) -> None:
    tagged = files["webm"].replace(b"Lavf", b"\xff\xfe\xfd\xfc")

    assert tagged != files["webm"]
    assert len(decode(tagged)) / SAMPLE_RATE_HZ == pytest.approx(3.0, abs=0.05)


# What is refused.


def test_no_bytes_are_empty() -> None:
    with pytest.raises(AudioEmpty, match="got 0 bytes"):
        decode(b"")


@pytest.mark.parametrize("form", ["WAV", "AIFF"])
def test_a_container_without_samples_is_empty(form: str) -> None:
    with pytest.raises(AudioEmpty, match="without any"):
        decode(write(np.zeros(0, np.float32), 16_000, form))


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"hello, this is text\n" * 1000,
        b"\x89PNG\r\n\x1a\n" + bytes(10_000),
        b"%PDF-1.4\n" + b"x" * 10_000,
        b"PK\x03\x04" + bytes(10_000),
        b"RIFF\x00\x10\x00\x00AVI LIST" + bytes(10_000),
        b"RIFF\x00\x10\x00\x00WEBPVP8 " + bytes(10_000),
        b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(1000),
        b"OggS" + bytes(1000),
        bytes(100_000),
        np.random.default_rng(0).bytes(100_000),
        b"\xff\xfb\x90\x00" + np.random.default_rng(0).bytes(100_000),
    ],
    ids=["x", "text", "png", "pdf", "zip", "avi", "webp", "id3", "ogg", "zeros", "noise", "mp3"],
)
def test_what_is_no_audio_is_undecodable(content: bytes) -> None:
    with pytest.raises(AudioUndecodable):
        decode(content)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "#EXTM3U\n{path}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
    ],
    ids=["hls", "concat", "m3u", "sdp"],
)
def test_a_playlist_opens_no_other_file(
    playlist: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    other = tmp_path / "other.ts"
    other.write_bytes(files["aac"])

    with pytest.raises(AudioUndecodable):
        decode(playlist.format(path=other).encode())


def test_a_film_without_sound_is_undecodable() -> None:
    silent_film = encode(tone(1, 48_000), "webm", "libopus").replace(b"A_OPUS", b"A_NONE")

    with pytest.raises(AudioUndecodable):
        decode(silent_film)


@pytest.mark.parametrize(
    "kind",
    [
        "wav",
        "wav-24-bit-stereo",
        "rf64",
        "flac",
        "m4a",
        "m4a-header-first",
        "m4a-fragments",
        "webm",
    ],
)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.98])
def test_a_file_that_was_cut_is_truncated(files: dict[str, bytes], kind: str, part: float) -> None:
    content = files[kind]

    with pytest.raises(AudioTruncated, match=r"expected .* got"):
        decode(content[: int(len(content) * part)])


@pytest.mark.parametrize("kind", ["wav-live", "opus-live", "webm-live", "flac-live", "mp3-live"])
def test_a_live_recording_that_stopped_is_decoded_as_far_as_it_goes(
    files: dict[str, bytes], kind: str
) -> None:
    content = files[kind]

    samples = decode(content[: len(content) // 2])

    assert 0.9 < len(samples) / SAMPLE_RATE_HZ < 2.0  # an ogg page holds a second


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF])
def test_a_streamed_wav_says_an_impossible_length(size: int) -> None:
    content = bytearray(write(tone(1), 16_000, "WAV", "PCM_16"))
    at = content.index(b"data") + 4
    content[at : at + 4] = size.to_bytes(4, "little")

    assert len(decode(bytes(content))) == SAMPLE_RATE_HZ


def test_a_wav_that_counts_its_header_as_data_is_whole() -> None:
    content = bytearray(write(tone(1), 16_000, "WAV", "PCM_16"))
    at = content.index(b"data") + 4
    content[at : at + 4] = len(content).to_bytes(4, "little")

    assert len(decode(bytes(content))) == SAMPLE_RATE_HZ


def test_a_flac_with_a_hole_is_no_cut_file() -> None:
    content = bytearray(write(noise(60), 16_000, "FLAC", "PCM_16"))
    content[len(content) // 8 : len(content) // 4] = bytes(len(content) // 4 - len(content) // 8)

    with pytest.raises(AudioError, match="that decode"):
        decode(bytes(content))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_a_sample_that_is_no_number_is_refused(value: float, subtype: str) -> None:
    samples = np.zeros((32_000, 2))
    samples[31_000, 1] = value

    with pytest.raises(AudioNotFinite, match="NaN or infinity"):
        decode(write(samples, 16_000, "WAV", subtype))  # type: ignore[arg-type] - doubles, on purpose


def test_huge_finite_samples_stay_finite() -> None:
    samples = np.full((16_000, 8), 3e38, np.float32)
    samples[:, ::2] *= -1

    decoded = decode(write(samples, 48_000, "WAV", "FLOAT"))

    assert np.abs(decoded).max() <= 1.0


@pytest.mark.parametrize(("rate_hz", "channels"), [(1, 1), (3_999, 1), (400_000, 1), (16_000, 33)])
def test_odd_rates_and_channel_counts_are_unsupported(rate_hz: int, channels: int) -> None:
    with pytest.raises(AudioFormatUnsupported, match="expected"):
        decode(write(np.zeros((100, channels), np.float32), rate_hz, "WAV", "PCM_16"))


def test_a_wav_of_65535_channels_is_refused() -> None:
    content = bytearray(write(tone(1), 16_000, "WAV", "PCM_16"))
    content[22:24] = b"\xff\xff"

    with pytest.raises(AudioError):
        decode(bytes(content))


# Length and memory.


@pytest.mark.parametrize("kind", KINDS)
def test_audio_past_the_limit_is_too_long(files: dict[str, bytes], kind: str) -> None:
    with pytest.raises(AudioTooLong, match="at most 2 s") as caught:
        decode(files[kind], max_s=2.0)

    assert caught.value.limit_s == 2.0


def test_audio_of_exactly_the_limit_is_not_too_long() -> None:
    assert len(decode(write(tone(2), 16_000, "WAV"), max_s=2.0)) == 2 * SAMPLE_RATE_HZ


def test_the_limit_holds_while_decoding_what_says_nothing_of_its_length() -> None:
    content = encode(tone(25, 48_000), "webm", "libopus", live=True)
    blocks = open_audio(content, max_s=15.0)

    first = next(blocks)

    assert 10.0 <= len(first) / SAMPLE_RATE_HZ <= 15.0
    with pytest.raises(AudioTooLong):
        next(blocks)


def test_a_flac_that_promises_days_is_refused_before_decoding() -> None:
    content = bytearray(write(np.zeros(16_000, np.float32), 16_000, "FLAC", "PCM_16"))
    content[21] |= 0x0F
    content[22:26] = b"\xff\xff\xff\xff"

    with pytest.raises((AudioTooLong, AudioTruncated)):
        next(open_audio(bytes(content), max_s=4 * HOUR_S))


def peak_megabytes(source: AudioSource, max_s: float) -> float:
    tracemalloc.start()
    try:
        with pytest.raises(AudioTooLong):
            for _ in open_audio(source, max_s=max_s):
                pass
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_three_hours_decode_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 16_000, 0, "NONE", ""))
        file.writeframes(b"")
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"  # unknown length, or the header alone would refuse it
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(len(content) + 16_000 * (3 * 3600 + 60))  # sparse: takes no disk

    def heard_s() -> float:
        return sum(len(block) for block in open_audio(path, max_s=4 * HOUR_S)) / SAMPLE_RATE_HZ

    tracemalloc.start()
    heard = heard_s()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert heard == pytest.approx(3 * HOUR_S + 60, abs=0.01)
    assert peak_bytes < 30 * 2**20


def test_a_flac_of_silence_decodes_in_flat_memory() -> None:
    content = encode(np.zeros(48_000 * 60, np.float32), "flac", "flac", live=True)

    assert len(content) < 48_000 * 60 * 2 / 40
    assert peak_megabytes(content, max_s=50.0) < 20


def test_eight_channels_at_192_khz_decode_in_flat_memory() -> None:
    content = write(np.zeros((192_000 * 4, 8), np.int16), 192_000, "WAV", "PCM_16")  # type: ignore[arg-type] - integers, on purpose
    at = content.index(b"data") + 4
    streamed = content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :]

    assert peak_megabytes(streamed, max_s=3.5) < 60


@settings(max_examples=80)
@given(data=st.data())
def test_a_damaged_file_gives_sane_samples_or_an_audio_error(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    content = bytearray(files[data.draw(st.sampled_from(KINDS))])
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 200))
        patch = data.draw(st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x80", b"\x01\x02"]))
        content[at : at + len(patch)] = patch
    content = content[: data.draw(st.integers(1, len(content)) | st.just(len(content)))]

    try:
        blocks = list(open_audio(bytes(content), max_s=60.0))
    except AudioError:
        return

    assert all(np.abs(block).max() <= 1.0 for block in blocks)
