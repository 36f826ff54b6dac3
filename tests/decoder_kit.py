"""Recordings in real containers, and a model that needs no weights, for tests of the whole decoding path."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt
import soundfile

from model_store.audio import FRAME_SAMPLES, Listener
from model_store.depth import DepthPlan, PlanCatalogue
from service.engine.torch_engine import TorchEngine

Samples = npt.NDArray[np.float32]

RATE_HZ = 48_000


def tone(duration_s: float, *, rate_hz: int = RATE_HZ, peak: float = 0.3) -> Samples:
    """A tone, which `LoudGate` takes for speech."""
    return (np.sin(np.arange(round(duration_s * rate_hz)) / 20) * peak).astype(np.float32)


def plain(samples: npt.NDArray[np.float32], rate_hz: int, form: str, subtype: str) -> bytes:
    """Samples in a container that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=form, subtype=subtype)
    return file.getvalue()


def packed(samples: Samples, form: str, codec: str, *, bit_rate: int = 24_000) -> bytes:
    """Samples at 48 kHz in a container that libavformat writes."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(
            (samples[None] * 32_767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = RATE_HZ
        resampler = av.AudioResampler(
            stream.format, "mono", RATE_HZ, frame_size=stream.codec_context.frame_size or 1024
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return file.getvalue()


class LoudGate:
    """Takes everything that is not quiet for speech."""

    def listen(self) -> "LoudListener":
        return LoudListener()

    def push_together(
        self, listeners: Sequence[Listener], samples: Sequence[Samples]
    ) -> list[Samples]:
        return [one.push(pushed) for one, pushed in zip(listeners, samples, strict=True)]


class LoudListener:
    """Hears one recording."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> Samples:
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = samples[whole:]
        loudness = np.abs(samples[:whole]).reshape(-1, FRAME_SAMPLES).mean(axis=1)
        return (loudness > 1e-3).astype(np.float32)

    def finish(self) -> Samples:
        if not len(self._rest):
            return np.zeros(0, np.float32)
        return self.push(np.zeros(FRAME_SAMPLES - len(self._rest), np.float32))


@dataclass(frozen=True)
class HeardWord:
    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Heard:
    text: str
    words: tuple[HeardWord, ...]
    avg_logprob: float = -0.2
    compression_ratio: float = 1.2
    flops: int = 300
    encoder_flops: int = 200
    full_flops: int = 500
    encode_s: float = 0.01
    decode_s: float = 0.02


class EchoModel:
    """Says `tone` once for every window, and keeps what it was given."""

    name = "echo"
    takes_hotwords = True

    def __init__(self) -> None:
        self.catalogue = PlanCatalogue.untuned(4)
        self.heard_s: list[float] = []
        self.plans: list[DepthPlan] = []
        self.hotwords: list[tuple[str, ...]] = []

    def transcribe_windows(
        self,
        windows: list[Samples],
        plan: DepthPlan,
        *,
        words: bool,
        hotwords: Sequence[str] = (),
    ) -> Sequence[Heard]:
        assert words, "expected word times to be asked for"
        self.hotwords.append(tuple(hotwords))
        self.heard_s += [len(samples) / 16_000 for samples in windows]
        self.plans.append(plan)
        return [Heard(" tone ", (HeardWord("tone", 0.5, 1.0, 0.8),)) for _ in windows]


def echo_engine(model: EchoModel | None = None) -> TorchEngine:
    """The real engine, its decoding and cutting included, on a model without weights."""
    return TorchEngine(lambda: model or EchoModel(), LoudGate)
