"""Timing one peer over a list of utterances.

Definitions, per utterance and for sums alike:

- **CPU time** of an utterance: what all threads of this process used (`time.process_time`) from
  samples in memory to text, features included; reading and decoding the file is left out. With
  one thread it is what the work costs; it still rises when a neighbour crowds the caches.
- **CPU time per second of audio**: CPU time over the audio's duration.
- **Real-time factor (RTF)**: time on the wall over the audio's duration; lower is better. One
  utterance at a time, a batch of one.
- **RTFX**: its inverse, seconds of audio per second on the wall; higher is better.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.corpus import SAMPLE_RATE_HZ, Utterance, read_samples
from benchmarks.peers.base import Peer, Samples
from benchmarks.record import Spread


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two times that are taken, in seconds."""

    cpu_s: Callable[[], float] = time.process_time
    wall_s: Callable[[], float] = time.perf_counter


@dataclass(frozen=True, slots=True)
class Transcribed:
    """One utterance's text, and what it cost in each repeat."""

    utterance: Utterance
    text: str
    audio_s: float
    cpu_s: tuple[float, ...]
    wall_s: tuple[float, ...]

    def as_json(self, peer: str) -> dict[str, object]:
        """Plain values for a result file; the costs are medians over the repeats."""
        return {
            "peer": peer,
            "id": self.utterance.id,
            "text": self.text,
            "reference": self.utterance.reference,
            "audio_s": round(self.audio_s, 4),
            "cpu_s": round(median(self.cpu_s), 6),
            "wall_s": round(median(self.wall_s), 6),
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """What a list of utterances cost; spreads are over the repeats' sums."""

    audio_s: float
    cpu_s: Spread
    wall_s: Spread

    @property
    def cpu_s_per_audio_s(self) -> float:
        """CPU time per second of audio."""
        return self.cpu_s.median / self.audio_s

    @property
    def real_time_factor(self) -> float:
        """Time on the wall per second of audio; lower is better."""
        return self.wall_s.median / self.audio_s

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second on the wall; higher is better."""
        return 1 / self.real_time_factor


def transcribe_all(
    peer: Peer,
    utterances: Iterable[Utterance],
    *,
    repeats: int = 1,
    read: Callable[[Utterance], Samples] = read_samples,
    clocks: Clocks | None = None,
) -> Iterator[Transcribed]:
    """Transcribe each utterance `repeats` times, timing each; the text is the last one's."""
    timer = clocks or Clocks()
    for utterance in utterances:
        samples = read(utterance)
        cpu_s: list[float] = []
        wall_s: list[float] = []
        text = ""
        for _ in range(repeats):
            wall_start, cpu_start = timer.wall_s(), timer.cpu_s()
            text = peer.transcribe(samples)
            cpu_s.append(timer.cpu_s() - cpu_start)
            wall_s.append(timer.wall_s() - wall_start)
        audio_s = samples.size / SAMPLE_RATE_HZ
        yield Transcribed(utterance, text, audio_s, tuple(cpu_s), tuple(wall_s))


def cost(transcribed: Sequence[Transcribed]) -> Cost:
    """Sum over utterances, repeat by repeat."""
    cpu_sums = [sum(times) for times in zip(*(one.cpu_s for one in transcribed), strict=True)]
    wall_sums = [sum(times) for times in zip(*(one.wall_s for one in transcribed), strict=True)]
    audio_s = sum(one.audio_s for one in transcribed)
    return Cost(audio_s, Spread.of(cpu_sums), Spread.of(wall_sums))
