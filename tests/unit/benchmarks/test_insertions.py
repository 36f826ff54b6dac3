"""Sounds without words, and the words that are counted against them."""

import numpy as np
import pytest

from benchmarks.insertions import at_level, count_words, live_words, sounds
from service.engine.base import Word
from service.engine.fake import FakeEngine


def said(*words: tuple[str, float]) -> list[Word]:
    return [Word(text, start_s, start_s + 0.2, 1.0) for text, start_s in words]


def test_sounds_are_equal_for_equal_seeds_and_others_for_other_seeds() -> None:
    one, again, other = (dict(sounds(10.0, seed)) for seed in (1, 1, 2))

    for name, samples in one.items():
        assert np.array_equal(samples, again[name])
        assert np.array_equal(samples, other[name]) == (name == "digital silence")


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.37])
def test_every_sound_is_as_long_as_asked_for_and_finite(seconds: float) -> None:
    for samples in dict(sounds(seconds, 0)).values():
        assert samples.dtype == np.float32
        assert len(samples) == round(seconds * 16_000)
        assert np.isfinite(samples).all()


@pytest.mark.parametrize("level_dbfs", [-60.0, -20.0])
def test_a_level_is_the_root_mean_square(level_dbfs: float) -> None:
    noise = np.random.default_rng(0).standard_normal(16_000)

    scaled = at_level(noise, level_dbfs)

    assert 20 * np.log10(np.sqrt(np.mean(scaled**2))) == pytest.approx(level_dbfs, abs=0.01)


def test_words_before_the_clip_are_insertions() -> None:
    heard = said(("Thank", 1.0), ("you.", 1.3), ("Hello", 10.1), ("there.", 10.5))

    assert count_words(heard, 10.0, "Hello there") == (2, True, "Hello there.")


def test_a_first_word_that_is_missing_or_not_first_does_not_count() -> None:
    assert count_words(said(("there.", 10.1)), 10.0, "Hello there") == (0, False, "there.")
    assert count_words([], 10.0, "Hello there") == (0, False, "")
    assert not count_words(said(("Oh", 10.1), ("hello", 10.4)), 10.0, "Hello")[1]


def test_a_stream_has_the_words_that_were_said_and_none_for_silence() -> None:
    engine = FakeEngine(sleep=lambda _: None)
    info = engine.load()
    silence, sound = np.zeros(32_000, np.float32), np.full(16_000, 0.1, np.float32)

    words = live_words(engine, info, np.concatenate([silence, sound, silence]), 0.0)

    assert [word.text for word in words][:2] == ["alpha", "bravo"]
    assert words[0].start_s == pytest.approx(2.0, abs=0.4)
    assert live_words(engine, info, silence, 0.0) == []
