"""What the streams of a load say: one voice each, its utterances one after the other with pauses.

Loudness is left as it is. A stream's place decides all of it, so that every system hears the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.capacity import Samples, pcm
from benchmarks.corpus import Utterance, read_samples

SAMPLE_RATE_HZ = 16_000
LEAD_S = 0.3
"""Silence before the first utterance, so that a gate hears where speech begins."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance of a voice."""

    id: str
    samples: Samples
    reference: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """A clip's place in a stream; times are seconds of stream time."""

    clip: Clip
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Script:
    """What one stream sends, 16-bit, and what is said in it."""

    sound: bytes
    spoken: tuple[Spoken, ...]


def read_voices(utterances: Sequence[Utterance]) -> list[tuple[Clip, ...]]:
    """Read the clips of each speaker, those with most clips first."""
    by_speaker: dict[str, list[Clip]] = {}
    for one in utterances:
        clip = Clip(one.id, read_samples(one), one.reference)
        by_speaker.setdefault(one.speaker, []).append(clip)
    return [tuple(clips) for clips in sorted(by_speaker.values(), key=len, reverse=True)]


def make_script(
    voices: Sequence[Sequence[Clip]], place: int, *, pause_s: float, seconds: float
) -> Script:
    """String the clips of a stream's voice together until so long.

    Args:
        voices: clips of each speaker.
        place: of the stream; voices take turns, and a voice that comes again begins elsewhere.
        pause_s: silence between two clips, longer than what ends an utterance.
        seconds: of the whole; a clip that would not fit is left out, silence completes it.
    """
    voice = voices[place % len(voices)]
    order = np.random.default_rng(place).permutation(len(voice))
    whole = np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)
    spoken: list[Spoken] = []
    at = round(LEAD_S * SAMPLE_RATE_HZ)
    turn = 0
    while at + len(clip := voice[order[turn % len(voice)]].samples) <= len(whole):
        whole[at : at + len(clip)] = clip
        start_s, end_s = at / SAMPLE_RATE_HZ, (at + len(clip)) / SAMPLE_RATE_HZ
        spoken.append(Spoken(voice[order[turn % len(voice)]], start_s, end_s))
        at += len(clip) + round(pause_s * SAMPLE_RATE_HZ)
        turn += 1
    return Script(pcm(whole), tuple(spoken))


def speech_share(scripts: Sequence[Script]) -> float:
    """Share of the time in which somebody speaks: the duty cycle of the load."""
    spoken_s = sum(one.end_s - one.start_s for script in scripts for one in script.spoken)
    return spoken_s / max(1e-9, sum(len(s.sound) / (2 * SAMPLE_RATE_HZ) for s in scripts))


def used_clips(scripts: Sequence[Script]) -> Mapping[str, Clip]:
    """Give every clip that somebody says, by its id."""
    return {one.clip.id: one.clip for script in scripts for one in script.spoken}
