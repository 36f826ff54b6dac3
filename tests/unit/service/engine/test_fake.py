import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.base import PlanInUse, Window
from service.engine.fake import MAX_CHANNELS, FakeEngine
from service.errors import (
    AudioEmpty,
    AudioFormatUnsupported,
    AudioTooLong,
    AudioTruncated,
    AudioUndecodable,
    DepthRefused,
    DropOutOfRange,
    PolicyUnknown,
    ServiceError,
)
from tests.service_kit import wav_bytes

FULL = FakeEngine().choose(0.0, None, "ladder")


def windows_of(content: bytes, max_s: float = 3600.0) -> list[Window]:
    return list(FakeEngine().open_windows(io.BytesIO(content), max_s=max_s))


def text_of(content: bytes, plan: PlanInUse = FULL) -> str:
    result = FakeEngine().transcribe(windows_of(content), plan)
    return " ".join(segment.text for segment in result.segments)


def test_each_half_second_is_a_word() -> None:
    assert text_of(wav_bytes(2.0)) == "alpha bravo charlie delta"


def test_half_depth_hears_half_the_words() -> None:
    plan = FakeEngine().choose(0.5, None, "ladder")

    assert text_of(wav_bytes(2.0), plan) == "um bravo um delta"


def test_silence_has_no_words_and_costs_nothing() -> None:
    result = FakeEngine().transcribe(windows_of(wav_bytes(2.0, peak=0.0)), FULL)

    assert result.segments[0].no_speech
    assert result.segments[0].text == ""
    assert result.cost.flops == 0


def test_a_shallower_plan_costs_less_and_says_what_full_depth_would() -> None:
    windows = windows_of(wav_bytes(2.0))
    half = FakeEngine().transcribe(windows, FakeEngine().choose(0.5, None, "ladder")).cost
    full = FakeEngine().transcribe(windows, FULL).cost

    assert half.encoder_flops == full.encoder_flops / 2
    assert half.flops < full.flops == full.full_flops == half.full_flops


def test_windows_cover_the_file_once() -> None:
    windows = windows_of(wav_bytes(20.0, rate_hz=44_100))

    assert [(w.start_s, w.end_s) for w in windows] == [(0, 8), (8, 16), (16, 20)]
    assert sum(len(window.samples) for window in windows) == 20 * 16_000


@pytest.mark.parametrize(("drop", "layers"), [(0, 8), (0.1, 4), (0.5, 4), (0.75, 2), (0.99, 1)])
def test_a_drop_gets_the_deepest_plan_within_it(drop: float, layers: float) -> None:
    assert FakeEngine().choose(drop, None, "ladder").effective_layers == layers


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan"), float("inf")])
def test_a_drop_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(DropOutOfRange, match="expected drop in"):
        FakeEngine().choose(value, None, "ladder")
    with pytest.raises(DropOutOfRange, match="expected max_drop in"):
        FakeEngine().choose(0.0, value, "ladder")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(PolicyUnknown, match="expected one of ladder, skip, got 'first-k'"):
        FakeEngine().choose(0.0, None, "first-k")


def test_a_drop_above_max_drop_is_refused() -> None:
    with pytest.raises(DepthRefused, match=r"at most max_drop 0\.5, got 0\.6"):
        FakeEngine().choose(0.6, 0.5, "ladder")


def test_a_plan_above_max_drop_is_refused() -> None:
    with pytest.raises(DepthRefused, match=r"a plan that drops at most 0\.4, got 0\.5"):
        FakeEngine().choose(0.4, 0.4, "ladder")


def test_a_step_takes_its_share_of_real_time() -> None:
    slept: list[float] = []
    engine = FakeEngine(realtime_factor=0.1, sleep=slept.append)

    engine.transcribe(windows_of(wav_bytes(4.0)), engine.choose(0.5, None, "ladder"))

    assert slept == [pytest.approx(0.2)]


def header(*, rate_hz: int = 16_000, channels: int = 1, bits: int = 16, data: int = 0) -> bytes:
    block = channels * bits // 8
    return (
        b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0"
        + channels.to_bytes(2, "little")
        + rate_hz.to_bytes(4, "little")
        + (rate_hz * block % 2**32).to_bytes(4, "little")
        + block.to_bytes(2, "little")
        + bits.to_bytes(2, "little")
        + b"data"
        + data.to_bytes(4, "little")
    )


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", AudioEmpty),
        (wav_bytes(0.0), AudioEmpty),
        (b"R", AudioUndecodable),
        (b"not audio at all, but long enough to be looked at", AudioUndecodable),
        (wav_bytes(2.0)[:-100], AudioTruncated),
        (header(data=2**31 - 100), AudioTruncated),
        (header(bits=8, data=4) + b"1234", AudioFormatUnsupported),
        (header(rate_hz=1_000_000, data=4) + b"1234", AudioFormatUnsupported),
        (header(channels=MAX_CHANNELS + 1, data=18) + b"x" * 18, AudioFormatUnsupported),
    ],
)
def test_what_is_no_usable_wav_is_refused(content: bytes, error: type[ServiceError]) -> None:
    with pytest.raises(error):
        windows_of(content)


def test_audio_beyond_the_cap_is_refused_where_it_is_reached() -> None:
    windows = FakeEngine().open_windows(io.BytesIO(wav_bytes(30.0)), max_s=10.0)

    assert next(windows).end_s == 8.0
    with pytest.raises(AudioTooLong, match="at most 10 s"):
        next(windows)


@given(st.binary(max_size=200))
def test_any_bytes_are_audio_or_refused(content: bytes) -> None:
    for start in (b"", header(data=100)):
        try:
            windows_of(start + content)
        except ServiceError:
            continue
