from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.streaming.pcm import BYTES_PER_SAMPLE, Encoding, PcmDecoder
from tests.stream_kit import sound

ENCODINGS: tuple[Encoding, ...] = ("pcm_s16le", "mulaw", "alaw")
RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)


def decoded(pieces: list[bytes], encoding: Encoding, rate_hz: int) -> np.ndarray:
    decoder = PcmDecoder(encoding, rate_hz)
    return np.concatenate([*(decoder.push(piece) for piece in pieces), decoder.finish()])


def cut(pcm: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(pcm) + 1) for place in places), len(pcm)]
    return [pcm[start:end] for start, end in pairwise(bounds)]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
@settings(max_examples=15)
@given(pcm=st.binary(max_size=4_000), places=st.lists(st.integers(0, 4_000), max_size=12))
def test_the_samples_do_not_depend_on_the_cut(
    encoding: Encoding, rate_hz: int, pcm: bytes, places: list[int]
) -> None:
    whole = decoded([pcm], encoding, rate_hz)
    pieces = decoded(cut(pcm, places), encoding, rate_hz)

    assert len(whole) == len(pieces)
    assert np.allclose(whole, pieces, atol=1e-6)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_second_is_a_second_at_every_rate(rate_hz: int) -> None:
    pcm = sound((1.0, 0.5), rate_hz=rate_hz)

    samples = decoded([pcm], "pcm_s16le", rate_hz)

    assert abs(len(samples) - 16_000) <= 1
    assert np.abs(samples[1_000:-1_000]).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("encoding", "code", "value"),
    [
        ("mulaw", 0xFF, 0),
        ("mulaw", 0x80, 32_124),
        ("mulaw", 0x00, -32_124),
        ("mulaw", 0xF0, 120),
        ("mulaw", 0x70, -120),
        ("alaw", 0xD5, 8),
        ("alaw", 0x55, -8),
        ("alaw", 0xAA, 32_256),
        ("alaw", 0x2A, -32_256),
        ("alaw", 0xC5, 264),
    ],
)
def test_codes_have_the_values_of_the_standard(encoding: Encoding, code: int, value: int) -> None:
    samples = decoded([bytes([code])], encoding, 16_000)

    assert samples.tolist() == [value / 2**15]


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_every_code_is_a_value_and_its_opposite(encoding: Encoding) -> None:
    samples = decoded([bytes(range(256))], encoding, 16_000)

    assert sorted(samples.tolist()) == sorted((-samples).tolist())
    assert len(set(np.abs(samples).tolist())) == 128


def test_samples_of_16_bits_are_little_endian() -> None:
    assert decoded([b"\x00\x40\x00\x80"], "pcm_s16le", 16_000).tolist() == [0.5, -1.0]


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=30)
@given(before=st.binary(max_size=99), dropped=st.integers(0, 99), after=st.binary(max_size=99))
def test_dropped_bytes_leave_the_rest_in_step(
    encoding: Encoding, before: bytes, dropped: int, after: bytes
) -> None:
    width = BYTES_PER_SAMPLE[encoding]
    decoder = PcmDecoder(encoding, 16_000)

    got = np.concatenate([decoder.push(before), decoder.skip(dropped), decoder.push(after)])

    kept = len(before) - len(before) % width
    begins = -(-(len(before) + dropped) // width) * width - len(before) - dropped
    tail = decoded([after[begins:]], encoding, 16_000)
    assert got[: kept // width].tolist() == decoded([before], encoding, 16_000).tolist()
    assert got[len(got) - len(tail) :].tolist() == tail.tolist()
    assert not got[kept // width : len(got) - len(tail)].any()
    assert len(got) >= (len(before) + dropped) // width
