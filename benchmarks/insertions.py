"""Words written where nobody spoke, and whether the first words after it are still written.

    OMP_NUM_THREADS=1 python -m benchmarks.insertions --clip CLIP --said TEXT > insertions.json

Minutes of silence, noise and synthesised music, each followed by a spoken clip, through the shipped
engine at several depths: as files (decode, gate, windows, decoder), and as live streams, packet by
packet through a session. Before them the clip alone, as it is and at a peak of -35 dBFS; with
`--noise` recorded noises too, over and over. Ends with one JSON line.
"""

import argparse
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import numpy as np
import soundfile
from prometheus_client import CollectorRegistry

from benchmarks.capacity import pcm
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.audio import read_audio
from model_store.registry import DEFAULT_MODEL
from model_store.text.normalise import normalise
from service.engine.base import (
    LADDER,
    SAMPLE_RATE_HZ,
    DepthChoice,
    Engine,
    ModelInfo,
    Samples,
    Word,
)
from service.engine.onnx.engine import create_onnx_engine
from service.errors import ServiceError
from service.metrics import create_metrics
from service.scheduling.depth import deepest
from service.scheduling.live import Round
from service.scheduling.live_load import LiveLoad
from service.streaming.backing import Backing
from service.streaming.commands import Packet, Stop, StreamConfig
from service.streaming.events import Event, Final
from service.streaming.inbox import Inbox
from service.streaming.measures import StreamMeasures
from service.streaming.outbox import Outbox
from service.streaming.session import Session

QUIET_PEAK = 10 ** (-35 / 20)
PAUSE_S = 1.0
PACKET_SAMPLES = SAMPLE_RATE_HZ // 10
NOTE_HZ = 440.0
MINOR_SCALE = (0, 2, 3, 5, 7, 8, 10)


def main() -> None:
    """Measure from the command line."""
    options = _parse()
    clip = read_audio(options.clip)
    engine = create_onnx_engine(options.model, num_threads=1, cache=options.cache)
    run = Run(
        benchmark="insertions",
        started=datetime.now(UTC),
        environment=read_environment(("numpy", "onnxruntime")),
        config={
            "model": options.model,
            "seconds": options.seconds,
            "said": options.said,
            "seed": options.seed,
        },
        warm_up=0,
        repeats=1,
    )
    rows: list[Mapping[str, object]] = []
    info = engine.load()
    quiet = clip * (QUIET_PEAK / float(np.abs(clip).max()))
    cases = [("nothing", clip[:0], clip), ("nothing, clip at a peak of -35 dBFS", clip[:0], quiet)]
    silence = np.zeros(round(options.seconds * SAMPLE_RATE_HZ), np.float32)
    cases.append(("digital silence, clip at a peak of -35 dBFS", silence, quiet))
    cases += [(name, sound, clip) for name, sound in sounds(options.seconds, options.seed)]
    for path in options.noise:
        noise = np.resize(read_audio(path), len(silence))
        cases.append((f"recorded: {path.stem}", noise, clip))
    for name, sound, spoken in cases:
        rows += _rows(engine, info, name, sound, spoken, options)
    print(json.dumps(document(run, rows)))


def sounds(seconds: float, seed: int) -> Iterator[tuple[str, Samples]]:
    """Give each sound without a word in it, by its name; equal for equal seeds."""
    length = round(seconds * SAMPLE_RATE_HZ)
    draw = np.random.default_rng(seed)
    yield "digital silence", np.zeros(length, np.float32)
    for name, level in (
        ("room -60 dBFS", -60.0),
        ("pink -40 dBFS", -40.0),
        ("pink -20 dBFS", -20.0),
    ):
        yield name, at_level(pink_noise(length, draw), level)
    for level in (-40.0, -20.0):
        yield f"white {level:.0f} dBFS", at_level(draw.standard_normal(length), level)
    yield "music: chords", at_level(chords(length, draw), -20.0)
    yield "music: melody", at_level(melody(length, draw), -20.0)
    yield "music: drums", at_level(drums(length, draw), -20.0)
    both = chords(length, draw) + melody(length, draw) + drums(length, draw)
    yield "music: band", at_level(both, -20.0)


def at_level(samples: np.ndarray, level_dbfs: float) -> Samples:
    """Scale to a root mean square in dB of full scale."""
    rms = float(np.sqrt(np.mean(np.square(samples))))
    return (samples * (10 ** (level_dbfs / 20) / rms)).astype(np.float32)


def pink_noise(length: int, draw: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency."""
    spectrum = np.fft.rfft(draw.standard_normal(length))
    return np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), length)


def chords(length: int, draw: np.random.Generator) -> np.ndarray:
    """Triads of two seconds that swell and fade."""
    return _notes(length, draw, each_s=2.0, steps=(0, 2, 4), decay_s=1.5, octave=-1)


def melody(length: int, draw: np.random.Generator) -> np.ndarray:
    """Single notes of 0.3 seconds."""
    return _notes(length, draw, each_s=0.3, steps=(0,), decay_s=0.15, octave=0)


def drums(length: int, draw: np.random.Generator) -> np.ndarray:
    """A beat of 120 a minute: a falling tone, then a burst of noise."""
    beat = SAMPLE_RATE_HZ // 2
    time_s = np.arange(beat) / SAMPLE_RATE_HZ
    kick = np.sin(2 * np.pi * (50 * time_s - 4 * np.exp(-time_s * 20))) * np.exp(-time_s * 12)
    played = np.zeros(length)
    for place, at in enumerate(range(0, length, beat)):
        snare = draw.standard_normal(beat) * np.exp(-time_s * 25)
        hit = kick if place % 2 == 0 else 0.5 * snare
        played[at : at + beat] = hit[: length - at]
    return played


def count_words(words: Sequence[Word], clip_start_s: float, said: str) -> tuple[int, bool, str]:
    """Count words before the clip; say whether its first word stands first in what follows."""
    before = [word.text for word in words if (word.start_s + word.end_s) / 2 < clip_start_s]
    after = " ".join(word.text for word in words[len(before) :])
    first = normalise(said).split()[:1]
    return len(before), normalise(after).split()[:1] == first, after


def _notes(
    length: int,
    draw: np.random.Generator,
    *,
    each_s: float,
    steps: Sequence[int],
    decay_s: float,
    octave: int,
) -> np.ndarray:
    each = round(each_s * SAMPLE_RATE_HZ)
    time_s = np.arange(each) / SAMPLE_RATE_HZ
    envelope = np.minimum(1.0, time_s / 0.02) * np.exp(-time_s / decay_s)
    played = np.zeros(length)
    for at in range(0, length, each):
        root = int(draw.integers(7))
        for step in steps:
            turns, degree = divmod(root + step, 7)
            hz = NOTE_HZ * 2 ** (octave + turns + MINOR_SCALE[degree] / 12)
            tone = sum(np.sin(2 * np.pi * hz * k * time_s) / k**1.5 for k in range(1, 6))
            played[at : at + each] += (tone * envelope)[: length - at]
    return played


class Told(Outbox):
    """Keeps the words of finals."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[Word] = []

    def put(self, events: Sequence[Event]) -> None:
        """Take what a client would be sent."""
        self.words += [word for one in events if isinstance(one, Final) for word in one.words]

    def fail(self, error: ServiceError) -> NoReturn:
        """Fail with the stream."""
        raise error


def live_words(engine: Engine, info: ModelInfo, samples: Samples, drop: float) -> list[Word]:
    """Give the words of a stream's finals; its packets come by a clock that waits for nobody."""
    inbox, told, now_s, load = Inbox(len(samples) * 2), Told(), 0.0, LiveLoad()
    measures = StreamMeasures(create_metrics(CollectorRegistry()), info)
    backing = Backing(engine, info, deepest, measures, two_pass=True)
    session = Session(StreamConfig(choice=DepthChoice(drop)), inbox, told, backing)
    packets = [
        pcm(samples[at : at + PACKET_SAMPLES]) for at in range(0, len(samples), PACKET_SAMPLES)
    ]
    for item in (*packets, Stop()):
        now_s += PACKET_SAMPLES / SAMPLE_RATE_HZ
        inbox.put(item if isinstance(item, Stop) else Packet(item, now_s))
        while session.has_news:
            Round([session], [session]).run(engine, lambda: now_s, load)  # noqa: B023 called at once
            session.publish()
    return told.words


def _rows(
    engine: Engine,
    info: ModelInfo,
    name: str,
    sound: Samples,
    clip: Samples,
    options: argparse.Namespace,
) -> Iterator[Mapping[str, object]]:
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    file = io.BytesIO()
    whole = np.concatenate([sound, pause, clip, pause])
    soundfile.write(file, whole, SAMPLE_RATE_HZ, format="WAV", subtype="FLOAT")
    file.seek(0)
    windows = list(engine.open_windows(file, max_s=len(whole) / SAMPLE_RATE_HZ + 1))
    clip_start_s = (len(sound) + len(pause)) / SAMPLE_RATE_HZ
    through = [window for window in windows if window.speech]
    for drop in options.drop:
        plan = engine.choose(drop, None, LADDER)
        segments = [engine.transcribe([window], plan).segments[0] for window in through]
        heard = {
            "file": [word for segment in segments for word in segment.words],
            "live": live_words(engine, info, whole, drop),
        }
        for way, words in heard.items():
            inserted, first, after = count_words(words, clip_start_s, options.said)
            row: dict[str, object] = {
                "sound": name,
                "way": way,
                "layers": plan.layers_text,
                "inserted": inserted,
                "first_word": first,
                "after": after,
            }
            if way == "file":
                row["speech_windows_before"] = sum(w.end_s <= clip_start_s for w in through)
            print(json.dumps(row), file=sys.stderr, flush=True)
            yield row


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--said", required=True)
    parser.add_argument(
        "--noise", type=Path, nargs="*", default=[], help="recorded, without speech"
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--drop", type=float, nargs="+", default=[0.0, 0.5, 0.75])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/elastic-asr")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
