"""Audio that the tests make themselves: tones, something like speech, and files of every kind."""

import io
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile

Samples = npt.NDArray[np.float32]

RATE_HZ = 16_000


def tone(seconds: float, rate_hz: int = RATE_HZ, peak: float = 0.3, hz: float = 440.0) -> Samples:
    """Make a tone that swells twice a second."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    swell = (1 + np.sin(2 * np.pi * 2 * t)) / 2
    return (peak * swell * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def noise(seconds: float, peak: float = 0.1, seed: int = 0) -> Samples:
    """Make white noise."""
    generator = np.random.default_rng(seed)
    return (peak * generator.uniform(-1, 1, round(seconds * RATE_HZ))).astype(np.float32)


def silence(seconds: float) -> Samples:
    """Make digital silence."""
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def babble(seconds: float, peak: float = 0.5) -> Samples:
    """Make vowels that a voice activity detector takes for speech: pulses through formants.

    Source: the vowel table of Peterson and Barney, "Control methods used in a study of the
    vowels", 1952 (men); Klatt's cascade of second-order resonators.
    """
    vowels = np.array(
        [
            [730, 1090, 2440],
            [270, 2290, 3010],
            [300, 870, 2240],
            [530, 1840, 2480],
            [570, 840, 2410],
        ]
    )
    generator = np.random.default_rng(0)
    num, syllable = round(seconds * RATE_HZ), round(0.18 * RATE_HZ)
    t = np.arange(num) / RATE_HZ
    pitch_hz = 120 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    value = np.diff(np.floor(np.cumsum(pitch_hz) / RATE_HZ), prepend=0.0)
    value = value + 0.01 * generator.standard_normal(num)
    said = vowels[generator.integers(0, len(vowels), num // syllable + 2)]
    for formant, bandwidth_hz in enumerate((80, 110, 160)):
        centre_hz = np.interp(np.arange(num), np.arange(len(said)) * syllable, said[:, formant])
        value = _resonate(value, centre_hz, bandwidth_hz)
    value = value * np.sqrt(np.abs(np.sin(np.pi * t / 0.18)))
    return (peak * value / np.abs(value).max()).astype(np.float32)


def write(samples: Samples, rate_hz: int, form: str, subtype: str | None = None) -> bytes:
    """Write a file with libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=form, subtype=subtype)
    return file.getvalue()


def encode(
    samples: Samples,
    form: str,
    codec: str,
    *,
    rate_hz: int = 48_000,
    layout: str = "mono",
    live: bool = False,
    **options: str,
) -> bytes:
    """Write 48 kHz mono samples with libavformat.

    Args:
        samples: Mono, at 48 kHz.
        form: The name of the muxer.
        codec: The name of the encoder.
        rate_hz: What the file gets.
        layout: What the file gets.
        live: Write to something that cannot seek back, as a recorder that streams does.
        options: Of the muxer.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "made"
        pipe = _Pipe()
        _encode(samples, pipe if live else path, form, codec, rate_hz, layout, options)
        return pipe.getvalue() if live else path.read_bytes()


def _encode(
    samples: Samples,
    file: "Path | _Pipe",
    form: str,
    codec: str,
    rate_hz: int,
    layout: str,
    options: dict[str, str],
) -> None:
    with av.open(file, "w", format=form, options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate_hz)  # typed by the codec's name alone
        stream.layout = layout
        stream.time_base = Fraction(1, rate_hz)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(
            stream.codec_context.format, layout, rate_hz, stream.codec_context.frame_size or 1024
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


class _Pipe:
    """A file that can only be written to."""

    def __init__(self) -> None:
        self._file = io.BytesIO()

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def getvalue(self) -> bytes:
        return self._file.getvalue()


def _resonate(
    values: npt.NDArray[np.float64], centre_hz: npt.NDArray[np.float64], bandwidth_hz: float
) -> npt.NDArray[np.float64]:
    radius = np.exp(-np.pi * bandwidth_hz / RATE_HZ)
    first = (2 * radius * np.cos(2 * np.pi * centre_hz / RATE_HZ)).tolist()
    out: list[float] = [0.0, 0.0]
    for value, factor in zip(values.tolist(), first, strict=True):
        out.append(factor * out[-1] - radius**2 * out[-2] + (1 - radius) * value)
    return np.array(out[2:])
