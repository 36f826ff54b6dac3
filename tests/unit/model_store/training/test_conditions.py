from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.training.conditions import (
    CONDITIONS,
    Samples,
    by_telephone,
    under_condition,
    with_noise,
)
from model_store.training.manifest import Utterance
from model_store.training.measure import Recording

RATE_HZ = 16_000


def tone(hz: float, length: int = RATE_HZ, level: float = 0.3) -> Samples:
    return (level * np.sin(2 * np.pi * hz * np.arange(length) / RATE_HZ)).astype(np.float32)


def hiss(length: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(0, 0.05, length).astype(np.float32)


def recording(stem: str, samples: Samples) -> Recording:
    return Recording(Utterance(f"set/{stem}", Path(stem), 1.0, "ann", "a word"), samples, "a word")


def level_db(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(samples))))


def at_hz(samples: Samples, hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples))
    return float(spectrum[round(hz * len(samples) / RATE_HZ)]) / (len(samples) / 2)


@given(ratio_db=st.floats(0, 30), length=st.integers(400, 20_000), noise=st.integers(100, 30_000))
def test_noise_is_so_much_below_speech(ratio_db: float, length: int, noise: int) -> None:
    speech = tone(300, length, 0.05)

    mixed = with_noise(speech, [hiss(noise)], ratio_db, np.random.default_rng(0))

    assert level_db(speech) - level_db(mixed - speech) == pytest.approx(ratio_db, abs=0.01)


def test_loud_speech_is_turned_down_not_clipped() -> None:
    mixed = with_noise(tone(300, level=1.0), [hiss(9_000)], 0.0, np.random.default_rng(0))

    assert np.abs(mixed).max() == pytest.approx(1.0)
    assert np.sum(np.abs(mixed) > 0.999) == 1


def test_a_telephone_passes_low_tones_only_and_keeps_the_length() -> None:
    for length in (1_000, 15_999, 16_000):
        assert len(by_telephone(tone(500, length))) == length
    assert at_hz(by_telephone(tone(1_000)), 1_000) == pytest.approx(0.3, rel=0.03)
    assert at_hz(by_telephone(tone(6_000)), 6_000) < 0.001


def test_mu_law_leaves_its_noise() -> None:
    speech = tone(997)

    ratio_db = level_db(speech) - level_db(by_telephone(speech) - speech)

    assert 25 < ratio_db < 45  # 8 bits; the standard asks for 33 dB and more at this level


def test_an_utterance_sounds_the_same_whatever_is_heard_beside_it() -> None:
    noise = [hiss(40_000, 1), hiss(40_000, 2)]
    both = [recording("a", tone(300)), recording("b", tone(300))]

    for condition in CONDITIONS:
        first, second = under_condition(both, condition, noise)
        (alone,) = under_condition(both[1:], condition, noise)
        assert np.array_equal(second.samples, alone.samples)
        assert first.reference == "a word"
    a, b = under_condition(both, "noisy-10db", noise)
    assert not np.array_equal(a.samples, b.samples)


def test_clean_is_left_alone() -> None:
    (found,) = under_condition([recording("a", tone(300))], "clean", [])

    assert np.array_equal(found.samples, tone(300))
