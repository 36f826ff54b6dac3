"""What speech goes through on its way to a recogniser, where words are counted under it.

Every utterance is changed by a draw of its own, made from its id: it sounds the same in every run,
to every system and in every subset of its corpus.

Dimensions: S = samples at 16 kHz.
"""

import dataclasses
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from model_store.audio import SAMPLE_RATE_HZ, read_audio
from model_store.training.manifest import read_manifest
from model_store.training.measure import Recording

Condition: TypeAlias = Literal["clean", "noisy-10db", "telephone-8khz"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
NOISY_DB = 10.0
TELEPHONE_RATE_HZ = 8_000

Samples = npt.NDArray[np.float32]


def read_noise(manifest: Path) -> list[Samples]:
    """Read every recording of noise that a manifest names."""
    return [read_audio(item.path) for item in read_manifest(manifest)]


def under_condition(
    recordings: Sequence[Recording], condition: Condition, noise: Sequence[Samples]
) -> Iterator[Recording]:
    """Give the recordings as they sound under a condition, in the order given.

    Args:
        recordings: clean ones.
        condition: `clean` changes nothing.
        noise: recordings that `noisy-10db` takes a stretch of, each as likely as another.
    """
    for recording in recordings:
        samples_S = recording.samples
        if condition == "noisy-10db":
            draw = np.random.default_rng(zlib.crc32(recording.utterance.id.encode()))
            samples_S = with_noise(samples_S, noise, NOISY_DB, draw)
        elif condition == "telephone-8khz":
            samples_S = by_telephone(samples_S)
        yield dataclasses.replace(recording, samples=samples_S)


def with_noise(
    samples_S: Samples, noise: Sequence[Samples], ratio_db: float, draw: np.random.Generator
) -> Samples:
    """Add a stretch of one recording of noise, so much below the speech.

    Both levels are root mean squares over the whole utterance, its pauses included. A sum beyond
    full scale is turned down as a whole rather than clipped.

    Args:
        samples_S: speech.
        noise: recordings, any lengths; a short one goes round.
        ratio_db: speech over noise.
        draw: of the recording and the place in it.
    """
    source_S = noise[int(draw.integers(len(noise)))]
    start = int(draw.integers(len(source_S)))
    stretch_S = source_S[(start + np.arange(len(samples_S))) % len(source_S)]
    speech, other = (float(np.sqrt(np.mean(np.square(x_S)))) for x_S in (samples_S, stretch_S))
    mixed_S = samples_S + stretch_S * (speech / max(other, 1e-6) * 10 ** (-ratio_db / 20))
    return (mixed_S / max(1.0, float(np.abs(mixed_S).max()))).astype(np.float32)


def by_telephone(samples_S: Samples) -> Samples:
    """Bring to 8 kHz, through the 8-bit mu-law of ITU-T G.711 as libsndfile writes it, and back."""
    narrow_S = soxr.resample(samples_S, SAMPLE_RATE_HZ, TELEPHONE_RATE_HZ).clip(-1.0, 1.0)
    coded = io.BytesIO()
    soundfile.write(coded, narrow_S, TELEPHONE_RATE_HZ, format="WAV", subtype="ULAW")
    coded.seek(0)
    decoded_S, _ = soundfile.read(coded, dtype="float32")
    wide_S = soxr.resample(decoded_S, TELEPHONE_RATE_HZ, SAMPLE_RATE_HZ).clip(-1.0, 1.0)
    return wide_S[: len(samples_S)].astype(np.float32)
