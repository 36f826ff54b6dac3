from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.audio import (
    FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    Listener,
    SileroGate,
    Window,
    cut_windows,
)
from model_store.audio.gate import FRAME_S
from tests.audio_kit import Samples, babble, noise, silence

LOUD = 0.1  # a sample above this is a word to the gate of these tests
FAINT = 0.02  # above this it is not sure


@dataclass(slots=True)
class LoudnessGate:
    """Takes whatever is loud for speech."""

    def listen(self) -> "LoudnessListener":
        return LoudnessListener()

    def push_together(
        self, listeners: Sequence[Listener], samples: Sequence[Samples]
    ) -> list[Samples]:
        return [one.push(pushed) for one, pushed in zip(listeners, samples, strict=True)]


class LoudnessListener:
    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> Samples:
        samples = np.concatenate([self._rest, samples])
        num_frames = len(samples) // FRAME_SAMPLES
        self._rest = samples[num_frames * FRAME_SAMPLES :]
        frames = samples[: num_frames * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
        peaks = np.abs(frames).max(axis=1)
        return np.where(peaks > LOUD, 1.0, np.where(peaks > FAINT, 0.2, 0.0)).astype(np.float32)

    def finish(self) -> Samples:
        if not len(self._rest):
            return np.zeros(0, np.float32)
        return self.push(np.zeros(FRAME_SAMPLES - len(self._rest), np.float32))


def words(seconds: float) -> Samples:
    return noise(seconds, peak=0.5)


def cut(samples: Samples, max_window_s: float = 24.0, min_window_s: float = 8.0) -> list[Window]:
    windows = cut_windows(
        [samples], gate=LoudnessGate(), max_window_s=max_window_s, min_window_s=min_window_s
    )
    return list(windows)


def lengths(windows: list[Window]) -> list[tuple[float, bool]]:
    return [(round(window.end_s - window.start_s, 1), window.speech) for window in windows]


audio = st.lists(st.tuples(st.booleans(), st.integers(1, 120_000)), min_size=0, max_size=12).map(
    lambda parts: np.concatenate(
        [np.zeros(0, np.float32)]
        + [np.full(length, 0.5 * loud, np.float32) for loud, length in parts]
    )
)


@given(samples=audio, num_blocks=st.integers(1, 9))
def test_windows_tile_the_audio(samples: Samples, num_blocks: int) -> None:
    blocks = np.array_split(samples, num_blocks)

    windows = list(cut_windows(blocks, gate=LoudnessGate(), max_window_s=6.0, min_window_s=2.0))

    edges_s = [0.0, *(window.end_s for window in windows)]
    assert [window.start_s for window in windows] == edges_s[:-1]
    assert edges_s[-1] == len(samples) / SAMPLE_RATE_HZ
    whole = np.concatenate([np.zeros(0, np.float32), *(window.samples for window in windows)])
    np.testing.assert_array_equal(whole, samples)


@given(samples=audio)
def test_no_window_is_empty_or_longer_than_the_longest(samples: Samples) -> None:
    windows = cut(samples, max_window_s=6.0, min_window_s=2.0)

    assert all(0 < window.end_s - window.start_s <= 6.0 for window in windows)
    assert all(
        len(window.samples) == round((window.end_s - window.start_s) * SAMPLE_RATE_HZ)
        for window in windows
    )


@given(samples=audio)
def test_no_word_lies_in_a_window_marked_silent(samples: Samples) -> None:
    windows = cut(samples, max_window_s=6.0, min_window_s=2.0)

    # A word of up to 128 ms may be a knock, or may be left over where speech had to be cut.
    loud_s = [
        np.count_nonzero(np.abs(window.samples) > LOUD) / SAMPLE_RATE_HZ
        for window in windows
        if not window.speech
    ]
    loud_runs = np.diff(np.flatnonzero(np.diff(np.abs(np.append(samples, 0)) > LOUD)))
    if len(loud_runs) == 0 or loud_runs.min() > 6 * FRAME_SAMPLES:
        assert all(seconds <= 5 * FRAME_S for seconds in loud_s)


@given(samples=audio, num_blocks=st.integers(2, 50))
def test_how_the_audio_came_in_blocks_changes_nothing(samples: Samples, num_blocks: int) -> None:
    blocks = np.array_split(samples, num_blocks)

    windows = list(cut_windows(blocks, gate=LoudnessGate(), max_window_s=6.0, min_window_s=2.0))

    assert lengths(windows) == lengths(cut(samples, max_window_s=6.0, min_window_s=2.0))


def test_no_audio_gives_no_window() -> None:
    assert cut(silence(0.0)) == []


def test_a_short_utterance_is_one_window() -> None:
    assert lengths(cut(words(3.0))) == [(3.0, True)]


def test_a_little_silence_around_speech_stays() -> None:
    samples = np.concatenate([silence(2.0), words(3.0), silence(2.0)])

    assert lengths(cut(samples)) == [(7.0, True)]


def test_long_silence_around_speech_is_cut_off_and_marked() -> None:
    samples = np.concatenate([silence(5.0), words(3.0), silence(4.0)])

    assert lengths(cut(samples)) == [(4.5, False), (4.0, True), (3.5, False)]


def test_a_long_pause_is_a_window_of_its_own() -> None:
    samples = np.concatenate([words(3.0), silence(6.0), words(3.0)])

    assert lengths(cut(samples)) == [(3.5, True), (5.0, False), (3.5, True)]


def test_a_short_pause_is_not() -> None:
    samples = np.concatenate([words(3.0), silence(0.9), words(3.0)])

    assert lengths(cut(samples)) == [(6.9, True)]


def test_a_pause_in_which_somebody_else_may_begin_ends_a_window_and_is_shared() -> None:
    samples = np.concatenate([words(3.0), silence(1.1), words(3.0)])

    assert lengths(cut(samples)) == [(3.5, True), (3.6, True)]


def test_a_pause_in_which_somebody_may_whisper_is_kept() -> None:
    samples = np.concatenate([words(3.0), noise(1.5, peak=0.05), words(3.0)])

    assert lengths(cut(samples)) == [(7.5, True)]


def test_silence_alone_is_marked() -> None:
    windows = cut(silence(100.0))

    assert not any(window.speech for window in windows)
    assert sum(length for length, _ in lengths(windows)) == pytest.approx(100.0, abs=0.5)


def test_long_speech_is_cut_in_the_middle_of_its_longest_pause() -> None:
    samples = np.concatenate([words(12.0), silence(0.8), words(6.0), silence(0.3), words(20.0)])

    assert lengths(cut(samples))[0] == (12.4, True)


def test_of_two_long_pauses_the_later_one_is_taken() -> None:
    samples = np.concatenate([words(10.0), silence(0.9), words(8.0), silence(0.6), words(20.0)])

    assert lengths(cut(samples))[0][0] == pytest.approx(19.2, abs=0.1)


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    samples = words(40.0)
    samples[16 * SAMPLE_RATE_HZ : 17 * SAMPLE_RATE_HZ] *= 0.3

    first = cut(samples)[0]

    assert 16.0 <= first.end_s <= 17.0


def test_the_last_words_are_not_left_alone() -> None:
    samples = np.concatenate([words(10.0), silence(0.2), words(13.5), silence(0.4), words(0.5)])

    assert lengths(cut(samples))[-1][0] > 2.0


def test_memory_is_bounded_by_the_window() -> None:
    given = 0.0

    def hours_of_speech() -> Iterator[Samples]:
        nonlocal given
        for _ in range(60):
            given += 10.0
            yield words(10.0)

    behind_s = [
        given - window.end_s for window in cut_windows(hours_of_speech(), gate=LoudnessGate())
    ]

    assert len(behind_s) > 20
    assert max(behind_s) < 24.0 + 10.0 + 3.0


def test_real_gate_and_windows_agree_on_where_speech_is() -> None:
    samples = np.concatenate([silence(4.0), babble(2.0), silence(8.0)])

    windows = list(cut_windows([samples], gate=SileroGate()))

    assert [window.speech for window in windows] == [False, True, False]
    assert windows[1].start_s == pytest.approx(3.5, abs=0.3)
    assert windows[1].end_s == pytest.approx(6.5, abs=0.3)
