"""Real containers through the real decoders and cutting, on a model without weights."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.decoder_kit import EchoModel, echo_engine, packed, plain, tone
from tests.service_kit import running

RECORDINGS = {
    "wav": lambda: plain(tone(3, rate_hz=8000), 8000, "WAV", "PCM_16"),
    "wav, 24 bit": lambda: plain(tone(3, rate_hz=96_000), 96_000, "WAV", "PCM_24"),
    "wav, float": lambda: plain(tone(3, rate_hz=22_050), 22_050, "WAV", "FLOAT"),
    "wav, mu-law": lambda: plain(tone(3, rate_hz=8000), 8000, "WAV", "ULAW"),
    "wav, stereo": lambda: plain(np.stack([tone(3)] * 2, axis=1), 48_000, "WAV", "PCM_16"),
    "flac": lambda: plain(tone(3, rate_hz=44_100), 44_100, "FLAC", "PCM_16"),
    "mp3": lambda: packed(tone(3), "mp3", "libmp3lame"),
    "ogg": lambda: plain(tone(3), 48_000, "OGG", "VORBIS"),
    "opus": lambda: packed(tone(3), "ogg", "libopus"),
    "webm": lambda: packed(tone(3), "webm", "libopus"),
    "m4a": lambda: packed(tone(3), "mp4", "aac"),
}


@pytest.mark.parametrize("name", RECORDINGS)
async def test_every_container_that_is_promised_is_read(name: str) -> None:
    async with running(echo_engine()) as app:
        answer = await app.transcribe("format=verbose_json", RECORDINGS[name]())

    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == "tone"
    assert answer.json()["words"] == [{"word": "tone", "start": 0.5, "end": 1.0, "confidence": 0.8}]
    assert answer.json()["audio_seconds"] == pytest.approx(3, abs=0.1)
    assert (answer.json()["flops"], answer.json()["encoder_flops"]) == (300, 200)


def wav_header(num_data_bytes: int) -> bytes:
    whole = plain(tone(1), 48_000, "WAV", "PCM_16")
    return whole[:40] + num_data_bytes.to_bytes(4, "little") + whole[44:]


BROKEN = {
    "nothing": (lambda: b" ", 415),
    "text": (lambda: b"hello, is this audio? " * 50, 415),
    "random": (lambda: np.random.default_rng(0).bytes(10_000), 415),
    "truncated wav": (lambda: plain(tone(9), 48_000, "WAV", "PCM_16")[:100_000], 422),
    "a header that promises 2 GB": (lambda: wav_header(2_000_000_000), 422),
    "truncated flac": (lambda: plain(tone(9), 48_000, "FLAC", "PCM_16")[:100_000], 422),
    "truncated m4a": (lambda: packed(tone(9), "mp4", "aac")[:9000], (415, 422)),
    "NaN": (lambda: plain(tone(3) * np.float32("nan"), 48_000, "WAV", "FLOAT"), 422),
    "infinite": (lambda: plain(tone(3) / np.float32(0), 48_000, "WAV", "FLOAT"), 422),
    "no samples": (lambda: plain(tone(0), 48_000, "WAV", "PCM_16"), 422),
    "a rate beyond reason": (lambda: plain(tone(1), 2_000_000, "WAV", "PCM_16"), 415),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_broken_is_a_4xx_with_a_code_and_the_next_request_is_unhurt(
    name: str,
) -> None:
    make, expected = BROKEN[name]
    statuses = expected if isinstance(expected, tuple) else (expected,)
    async with running(echo_engine()) as app:
        answer = await app.transcribe("", make())
        after = await app.transcribe("", RECORDINGS["flac"]())

    assert answer.status_code in statuses, answer.text
    assert answer.json()["error"]["code"].startswith("audio_")
    assert "Error" not in answer.text
    assert after.json()["text"] == "tone"


async def test_eight_channels_at_192_khz_are_bounded() -> None:
    wide = np.stack([tone(2, rate_hz=192_000)] * 8, axis=1)
    async with running(echo_engine()) as app:
        answer = await app.transcribe("", plain(wide, 192_000, "WAV", "PCM_16"))

    assert answer.status_code in {200, 415}


@pytest.mark.parametrize(
    "recording",
    [
        lambda: packed(tone(100, peak=0.0), "ogg", "libopus", bit_rate=6000),
        lambda: packed(tone(100, peak=0.0), "webm", "libopus", bit_rate=6000),
        lambda: plain(tone(100, rate_hz=16_000, peak=0.0), 16_000, "FLAC", "PCM_16"),
    ],
)
async def test_a_bomb_is_refused_where_decoding_passes_the_cap(
    recording: Callable[[], bytes],
) -> None:
    model = EchoModel()
    bomb = recording()
    assert len(bomb) < 100 * 16_000 * 2 / 40
    async with running(echo_engine(model), max_audio_s=30.0) as app:
        answer = await app.transcribe("", bomb)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "audio_too_long")
    assert sum(model.heard_s) <= 30 + 4


async def test_silence_is_not_given_to_the_model() -> None:
    model = EchoModel()
    async with running(echo_engine(model)) as app:
        warm_up = list(model.heard_s)
        answer = await app.transcribe("", plain(tone(5, peak=0.0), 48_000, "WAV", "PCM_16"))

    assert answer.json()["text"] == ""
    assert answer.json()["flops"] == 0
    assert model.heard_s == warm_up


async def test_a_long_file_is_transcribed_to_its_end_in_windows() -> None:
    model = EchoModel()
    async with running(echo_engine(model), batch_windows=2) as app:
        model.heard_s.clear()
        answer = await app.transcribe(
            "format=verbose_json&drop=0.75&policy=skip",
            plain(tone(200, rate_hz=16_000), 16_000, "FLAC", "PCM_16"),
        )

    body = answer.json()
    assert body["duration"] == 200
    assert sum(model.heard_s) == pytest.approx(200, abs=0.1)
    assert len(body["segments"]) == len(model.heard_s) >= 200 / 24
    assert body["segments"][-1]["end"] == pytest.approx(200, abs=0.1)
    assert body["plan"] == [1, 0, 0, 0]


async def test_every_policy_of_the_catalogue_is_served() -> None:
    async with running(echo_engine()) as app:
        policies = (await app.client.get("/v1/models")).json()["policies"]
        answers = [
            await app.transcribe(f"drop=0.5&policy={policy}", RECORDINGS["flac"]())
            for policy in policies
        ]

    assert len(policies) >= 6
    assert all(answer.headers["X-ASR-Layers"] == "2/4" for answer in answers)


@pytest.mark.slow
async def test_three_hours_are_transcribed_to_their_end() -> None:
    model = EchoModel()
    minute = tone(60, rate_hz=16_000)
    async with running(echo_engine(model)) as app:
        answer = await app.transcribe(
            "format=vtt", plain(np.tile(minute, 180), 16_000, "FLAC", "PCM_16")
        )

    assert answer.headers["X-ASR-Audio-Seconds"] == "10800.000"
    assert answer.text.count("tone") >= 10_800 / 24
    assert max(model.heard_s) <= 24
