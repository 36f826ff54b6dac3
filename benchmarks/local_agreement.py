"""Live streams that one core keeps up with when a static model hears a growing buffer again and again.

    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.local_agreement --folder FASTER_WHISPER_BASE \
        --clip FILE... --streams 1 2 3 4 > local-agreement.json

The usual way to caption live with a model made for files: once a second the whole buffer is
transcribed, words on which two updates agree are committed (LocalAgreement-2), and at 15 s the
buffer is closed and a new one begun. The same looped clips and the same definition of lag as
`benchmarks.capacity`: from when a packet was due to the end of the first update that heard it. No
server, no socket and no gate stand between, which flatters the loop. Updates run one after the
other, the stream that has waited longest first.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import numpy as np

from benchmarks.capacity import STAGGER_S, Samples, looped
from benchmarks.capacity_log import PACKET_S, PERCENTILES
from benchmarks.hardware import read_environment
from benchmarks.peers.faster_whisper_peer import FasterWhisper
from benchmarks.record import Run, document
from model_store.audio import SAMPLE_RATE_HZ, read_audio

UPDATE_S = 1.0
"""New audio from which on a stream is due."""
MOST_BUFFER_S = 15.0
PACKET_SAMPLES = round(PACKET_S * SAMPLE_RATE_HZ)


@dataclass(slots=True)
class Loop:
    """One stream's buffer and what two updates agreed on.

    Args:
        samples: all that it will say.
        start_s: clock time of its first sample.
    """

    samples: Samples
    start_s: float
    begun: int = 0
    heard: int = 0
    committed: list[str] = field(default_factory=list[str])
    tentative: list[str] = field(default_factory=list[str])
    agreed_in_buffer: int = 0
    lag_s: list[float] = field(default_factory=list[float])

    @property
    def ended(self) -> bool:
        """Whether all of it was heard."""
        return self.heard >= len(self.samples)

    def spoken(self, now_s: float) -> int:
        """Samples that have arrived, in whole packets."""
        packets = int((now_s - self.start_s) / PACKET_S)
        return min(len(self.samples), max(0, packets) * PACKET_SAMPLES)

    def due_s(self) -> float:
        """When enough will have arrived for the next update."""
        wanted = min(len(self.samples), self.heard + round(UPDATE_S * SAMPLE_RATE_HZ))
        return self.start_s + -(-wanted // PACKET_SAMPLES) * PACKET_S

    def update(self, transcribe: Callable[[Samples], str], clock: Callable[[], float]) -> None:
        """Hear the buffer with what has arrived, and commit."""
        end = self.spoken(clock())
        words = transcribe(self.samples[self.begun : end]).split()
        now_s = clock()
        first, last = self.heard // PACKET_SAMPLES, end // PACKET_SAMPLES
        dues_s = (self.start_s + (packet + 1) * PACKET_S for packet in range(first, last))
        self.lag_s += [now_s - due_s for due_s in dues_s]
        self.heard = end
        closes = end - self.begun >= MOST_BUFFER_S * SAMPLE_RATE_HZ or self.ended
        pairs = zip(self.tentative, words, strict=False)
        agreed = len(words) if closes else sum(1 for _ in takewhile(lambda p: p[0] == p[1], pairs))
        self.committed += words[self.agreed_in_buffer : agreed]
        self.agreed_in_buffer = max(self.agreed_in_buffer, agreed)
        self.tentative = words
        if closes:
            self.begun, self.tentative, self.agreed_in_buffer = end, [], 0


def run(
    loops: Sequence[Loop],
    transcribe: Callable[[Samples], str],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Update the streams, the one that has waited longest first, until all are heard."""
    while waiting := [one for one in loops if not one.ended]:
        longest = min(waiting, key=Loop.due_s)
        sleep(max(0.0, longest.due_s() - clock()))
        longest.update(transcribe, clock)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parse(arguments)
    model = FasterWhisper(options.name, options.folder, threads=1)
    clips = [read_audio(path) for path in options.clip]
    model.transcribe(clips[0])
    rows = [measure(count, clips, model, options) for count in options.streams]
    run_of = Run(
        benchmark="local-agreement",
        started=datetime.now(UTC),
        environment=read_environment(("ctranslate2", "faster-whisper", "numpy")),
        config={
            "peer": dict(model.config),
            "update_s": UPDATE_S,
            "most_buffer_s": MOST_BUFFER_S,
            "agreeing": 2,
            "seconds": options.seconds,
            "pause_s": options.pause,
            "clips": len(clips),
        },
        warm_up=1,
        repeats=1,
    )
    print(json.dumps(document(run_of, rows)))


def measure(
    count: int, clips: Sequence[Samples], model: FasterWhisper, options: argparse.Namespace
) -> dict[str, object]:
    """Run so many streams."""
    begin_s = time.monotonic() + 0.1
    loops = [
        Loop(
            looped(clips, place, options.pause, options.seconds),
            begin_s + STAGGER_S * place / count,
        )
        for place in range(count)
    ]
    cpu_before_s = time.process_time()
    run(loops, model.transcribe, time.monotonic, time.sleep)
    cpu_s = time.process_time() - cpu_before_s
    lags = np.percentile([lag_s for one in loops for lag_s in one.lag_s], PERCENTILES)
    row: dict[str, object] = {
        "streams": count,
        "lag_s": {f"p{p}": round(float(v), 4) for p, v in zip(PERCENTILES, lags, strict=True)},
        "cpu_s_per_s": round(cpu_s / (count * options.seconds), 4),
        "words": sum(len(one.committed) for one in loops),
    }
    print(json.dumps(row), file=sys.stderr)
    return row


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="with the peer's model")
    parser.add_argument("--name", default="faster-whisper-base")
    parser.add_argument("--clip", type=Path, required=True, nargs="+")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each stream")
    parser.add_argument("--pause", type=float, default=1.5, help="seconds between clips")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
