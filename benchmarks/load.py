"""The parts of the load test that need no load generator: its shapes, its audio, its options.

`locustfile.py` at the root is the load test.
"""

import io
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.capacity import PACKET_BYTES, Samples, looped, pcm
from benchmarks.capacity_log import StreamLog
from benchmarks.errors import CorpusInvalid
from model_store.audio import SAMPLE_RATE_HZ, read_audio

AUDIO = Path(__file__).parents[1] / "tests" / "assets"
"""Speech that comes with the repository."""
SUFFIXES = (".flac", ".mp3", ".ogg", ".opus", ".wav")
REFUSED = frozenset({"1013", "overloaded", "draining", "loading"})
"""What a stream is told that there is no place for."""

STEPS = 4
LOW_SHARE = 0.25
BURST_FROM, BURST_TO = 1 / 3, 1 / 2
"""A burst takes the time between these shares of a run."""


def steady(share_of_run: float) -> float:
    """Everybody from the start."""
    del share_of_run
    return 1.0


def ramp(share_of_run: float) -> float:
    """Up in a line over two thirds of the run, then everybody."""
    return min(1.0, 1.5 * share_of_run)


def step(share_of_run: float) -> float:
    """Up in four equal steps of equal length."""
    return min(STEPS, int(share_of_run * STEPS) + 1) / STEPS


def burst(share_of_run: float) -> float:
    """A quarter of them, all at once for a sixth of the run, and a quarter again."""
    return 1.0 if BURST_FROM <= share_of_run < BURST_TO else LOW_SHARE


SHAPES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {"steady": steady, "ramp": ramp, "step": step, "burst": burst}
)


def users_at(shape: str, at_s: float, run_s: float, most: int) -> int | None:
    """Say how many users there are at a moment; None once the run is over.

    Args:
        shape: one of `SHAPES`.
        at_s: since the run began.
        run_s: of the whole run.
        most: users at the peak.
    """
    if at_s >= run_s:
        return None
    return max(1, round(most * SHAPES[shape](at_s / run_s)))


def read_clips(folder: Path) -> list[Samples]:
    """Read all speech of a folder.

    Raises:
        CorpusInvalid: there is none.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
    if not paths:
        raise CorpusInvalid(f"expected audio files ({', '.join(SUFFIXES)}) in '{folder}', got none")
    return [read_audio(path) for path in paths]


def as_wav(samples: Samples) -> bytes:
    """Give a 16-bit wav file, which every engine reads."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(pcm(samples))
    return content.getvalue()


def packets(clips: Sequence[Samples], place: int, *, pause_s: float, seconds: float) -> list[bytes]:
    """Give what a stream says, in packets of 100 ms; each place begins with another clip."""
    sound = pcm(looped(clips, place, pause_s, seconds))
    return [sound[at : at + PACKET_BYTES] for at in range(0, len(sound), PACKET_BYTES)]


@dataclass(frozen=True, slots=True)
class Event:
    """Something a load test counts: its name, and how long it took."""

    name: str
    took_s: float


class StreamEvents:
    """Turns a stream's messages into events, by the definitions of the capacity benchmark.

    Args:
        start_s: clock time of its first sample.
        num_packets: that it sends.
    """

    def __init__(self, start_s: float, num_packets: int) -> None:
        self.log = StreamLog(start_s, num_packets)

    def take(self, message: Mapping[str, Any], now_s: float) -> list[Event]:
        """Take a message, and give what it makes known."""
        kept = {
            "ws lag": self.log.lag_s,
            "ws first partial": self.log.first_partial_s,
            "ws final": self.log.final_s,
        }
        before = {name: len(values) for name, values in kept.items()}
        self.log.take(message, now_s)
        return [
            Event(name, max(0.0, took_s))
            for name, values in kept.items()
            for took_s in values[before[name] :]
        ]

    @property
    def outcome(self) -> str:
        """Say how it ended: `ok`, `refused`, `dropped audio`, or what went wrong."""
        if any(error in REFUSED for error in self.log.errors):
            return "refused"
        if self.log.errors:
            return self.log.errors[0]
        return "dropped audio" if self.log.dropped_s else "ok"
