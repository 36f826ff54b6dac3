import hashlib
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.audio import FRAME_SAMPLES, SileroGate, has_speech, read_audio, speech_spans
from model_store.audio.gate import ONSET
from tests.audio_kit import RATE_HZ, Samples, babble, noise, silence, tone

ASSETS = Path(__file__).parents[3] / "assets"
LATE_FRAMES = 4
"""Of nine that an utterance takes along before its first frame of speech."""


@pytest.fixture(scope="module")
def gate() -> SileroGate:
    return SileroGate()


@pytest.fixture(scope="module")
def speech() -> Samples:
    return babble(3.0)


def at_peak(samples: Samples, peak_db: float) -> Samples:
    return (samples * 10 ** (peak_db / 20) / np.abs(samples).max()).astype(np.float32)


def listen(gate: SileroGate, samples: Samples, pieces: int = 1) -> Samples:
    listener = gate.listen()
    heard = [listener.push(piece) for piece in np.array_split(samples, pieces)]
    return np.concatenate([*heard, listener.finish()])


def pink(seconds: float) -> Samples:
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(round(seconds * RATE_HZ)))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    values = np.fft.irfft(spectrum)
    return (values / np.abs(values).max()).astype(np.float32)


def clatter(seconds: float) -> Samples:
    """Dishes: bursts of noise that ring at a few high pitches and die away."""
    generator = np.random.default_rng(2)
    t = np.arange(round(0.15 * RATE_HZ)) / RATE_HZ
    samples = 0.02 * generator.standard_normal(round(seconds * RATE_HZ))
    for start in generator.integers(0, len(samples) - len(t), round(4 * seconds)):
        ring = sum(np.sin(2 * np.pi * hz * t) for hz in generator.uniform(2_000, 7_000, 3))
        samples[start : start + len(t)] += 0.2 * ring * np.exp(-t / 0.02)
    return np.clip(samples, -1, 1).astype(np.float32)


@pytest.mark.parametrize("peak_db", [-0.1, -20.0, -35.0, -50.0])
def test_speech_counts_at_any_level(gate: SileroGate, speech: Samples, peak_db: float) -> None:
    spans = speech_spans(listen(gate, at_peak(speech, peak_db)))

    assert sum(end - start for start, end in spans) * FRAME_SAMPLES > 0.8 * len(speech)


def test_speech_counts_on_top_of_an_offset(gate: SileroGate, speech: Samples) -> None:
    assert has_speech(gate, at_peak(speech, -35.0) + np.float32(0.3))


def test_quiet_speech_counts_soon_after_something_loud(gate: SileroGate, speech: Samples) -> None:
    knock = np.concatenate([noise(0.1, peak=1.0), silence(2.0)])

    assert has_speech(gate, np.concatenate([knock, at_peak(speech, -35.0)]))


@pytest.mark.parametrize("peak_db", [-0.1, -20.0, -40.0, -60.0])
@pytest.mark.parametrize("kind", ["white", "pink", "clatter", "tone", "hum"])
def test_noise_is_no_speech_at_any_level(gate: SileroGate, kind: str, peak_db: float) -> None:
    samples = {
        "white": noise(10.0),
        "pink": pink(10.0),
        "clatter": clatter(10.0),
        "tone": tone(10.0),
        "hum": tone(10.0, hz=50.0),
    }[kind]

    assert not has_speech(gate, at_peak(samples, peak_db))


def test_silence_is_no_speech(gate: SileroGate) -> None:
    assert not has_speech(gate, silence(30.0))
    assert not has_speech(gate, noise(30.0, peak=2**-15))
    assert not has_speech(gate, silence(0.0))


def test_one_probability_speaks_for_each_frame_begun(gate: SileroGate) -> None:
    assert len(listen(gate, silence(0.0))) == 0
    assert len(listen(gate, np.zeros(1, np.float32))) == 1
    assert len(listen(gate, np.zeros(FRAME_SAMPLES, np.float32))) == 1
    assert len(listen(gate, np.zeros(FRAME_SAMPLES + 1, np.float32))) == 2


@settings(max_examples=20)
@given(pieces=st.integers(2, 200))
def test_how_a_recording_is_cut_into_pushes_changes_nothing(
    gate: SileroGate, speech: Samples, pieces: int
) -> None:
    samples = np.concatenate([noise(0.5), speech[:20_000]])

    np.testing.assert_allclose(listen(gate, samples, pieces), listen(gate, samples), atol=1e-4)


@pytest.mark.parametrize("pieces", [2, 3, 701])
def test_nor_where_the_graph_begins_anew(gate: SileroGate, pieces: int) -> None:
    samples = np.concatenate([at_peak(pink(70.0), -40.0), babble(2.0)])

    np.testing.assert_allclose(listen(gate, samples, pieces), listen(gate, samples), atol=1e-4)


@pytest.mark.parametrize("peak_db", [-10.0, -45.0])
def test_speech_is_heard_as_soon_after_minutes_of_noise(gate: SileroGate, peak_db: float) -> None:
    clip, pause = read_audio(ASSETS / "fox.opus"), silence(1.0)
    alone = np.argmax(listen(gate, np.concatenate([pause, clip])) >= ONSET)
    noisy = at_peak(pink(10_000 * FRAME_SAMPLES / RATE_HZ), peak_db)

    heard = listen(gate, np.concatenate([noisy, pause, clip]))

    late = np.argmax(heard >= ONSET) - len(noisy) // FRAME_SAMPLES - alone
    assert 0 <= late <= LATE_FRAMES


def test_listeners_share_a_gate_and_nothing_else(gate: SileroGate, speech: Samples) -> None:
    alone = listen(gate, speech)
    first, second = gate.listen(), gate.listen()

    heard: list[Samples] = []
    for piece in np.array_split(speech, 10):
        heard.append(first.push(piece))
        second.push(noise(0.3))

    np.testing.assert_allclose(np.concatenate([*heard, first.finish()]), alone, atol=1e-4)


def test_spans_bridge_short_pauses_and_drop_knocks() -> None:
    probabilities = np.zeros(60)
    probabilities[5:15] = 0.9
    probabilities[18:25] = 0.4  # softer, and only three frames later
    probabilities[40:42] = 0.9  # two frames: a knock

    assert speech_spans(probabilities) == [(5, 25)]


def test_speech_needs_an_onset() -> None:
    assert speech_spans(np.full(100, 0.45)) == []


@given(st.lists(st.floats(0, 1), max_size=200))
def test_spans_are_ordered_apart_and_inside(values: list[float]) -> None:
    spans = speech_spans(np.array(values))

    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(values) for edge in edges)
    assert all(after[0] - before[1] >= 4 for before, after in pairwise(spans))


def test_the_graph_is_what_the_recipe_made() -> None:
    graph = files("model_store.audio").joinpath("silero_vad_16k_streams.onnx").read_bytes()

    assert hashlib.sha256(graph).hexdigest() == (
        "dc0f8e7e10dda06b7dad159034db14e502b26b47ca7df7acec21a7605c7c8a63"
    )


@settings(deadline=None, max_examples=25)
@given(
    cuts=st.lists(st.lists(st.integers(0, 9_000), min_size=1, max_size=4), min_size=1, max_size=5)
)
def test_who_is_pushed_to_beside_a_recording_makes_no_difference(
    gate: SileroGate, speech: Samples, cuts: list[list[int]]
) -> None:
    sounds = [np.roll(speech, 4_000 * place)[: sum(sizes)] for place, sizes in enumerate(cuts)]
    alone = [gate.listen().push(sound) for sound in sounds]

    listeners = [gate.listen() for _ in cuts]
    heard: list[list[Samples]] = [[] for _ in cuts]
    for turn in range(max(map(len, cuts))):
        due = [place for place, sizes in enumerate(cuts) if turn < len(sizes)]
        starts = [sum(cuts[place][:turn]) for place in due]
        pieces = [
            sounds[place][start : start + cuts[place][turn]]
            for place, start in zip(due, starts, strict=True)
        ]
        answers = gate.push_together([listeners[place] for place in due], pieces)
        for place, answer in zip(due, answers, strict=True):
            heard[place].append(answer)

    for mine, expected in zip(heard, alone, strict=True):
        np.testing.assert_allclose(np.concatenate(mine), expected, atol=1e-5)


def test_a_long_push_beside_short_ones_takes_calls_of_bounded_length(
    gate: SileroGate, speech: Samples
) -> None:
    long, short = np.tile(speech, 12), speech[: 3 * FRAME_SAMPLES]
    alone = gate.listen().push(long)

    together = gate.push_together([gate.listen() for _ in range(9)], [long, *[short] * 8])

    np.testing.assert_allclose(together[0], alone, atol=1e-5)
    assert [len(answer) for answer in together[1:]] == [3] * 8


def test_nobody_to_push_to_is_no_call(gate: SileroGate) -> None:
    assert gate.push_together([], []) == []
