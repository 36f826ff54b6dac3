"""Service times of the int8 engine, measured for the simulator: chunks, decoder calls, finals, gate.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.simulator.profile --clip FILE... > times.json

Streams are fed real speech a chunk a step, each from another place in it, so that a step holds
utterances of all ages, some of which end. Times are CPU time of the thread, so that waiting for
other work on the core is not counted; what that work does to the caches is. The file says:

| `what` | figures |
|---|---|
| `encode` | seconds for one stream's chunk, front end and decoder memory included, by layers and number of streams in the step |
| `decode` | `update_s` a step that writes, `call_s` a decoder call, `row_s` each transcript in a call: least squares over all steps |
| `calls` | how many decoder calls an update took, by chunks gained since the last one; `ends` for finals |
| `second_pass` | seconds of a second pass, `base_s` + `audio_s` for each second of the utterance |
| `gate` | seconds of a gate frame of 32 ms |
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.hardware import read_environment
from benchmarks.record import Run, Spread, document
from model_store.audio import SAMPLE_RATE_HZ, SileroGate, read_audio
from model_store.decoding.live_runner import CHUNK_FRAMES, LiveMachine, LiveRunner
from model_store.decoding.live_step import LiveRequest
from model_store.depth import DepthPlan
from service.engine.base import GATE_FRAME_SAMPLES
from service.engine.onnx.checkpoint import FRAME_SAMPLES, open_checkpoint
from service.engine.onnx.live import create_live_runner
from service.engine.onnx.processor import read_processor
from service.engine.onnx.recogniser import OnnxRecogniser

Samples = npt.NDArray[np.float32]
CHUNK_SAMPLES = CHUNK_FRAMES * FRAME_SAMPLES
GATE_PACKET_FRAMES = 3
STEPS_BEFORE = 3
"""Steps of each case that are not counted: caches and memory arenas grow in them."""


@dataclass(slots=True)
class Timed:
    """What one step took, and what was in it."""

    encode_s: float = 0.0
    frames: int = 0
    write_s: float = 0.0
    calls: list[int] = field(default_factory=list[int])


class TimedMachine:
    """Passes on to a machine and notes the CPU time of its parts; see `LiveMachine`."""

    def __init__(self, machine: LiveMachine[Any, Any]) -> None:  # Any: states it hands through
        self._machine = machine
        self.step = Timed()

    def open(self) -> tuple[Any, Any]:
        """Begin an utterance."""
        return self._machine.open()

    def check(self, plan: DepthPlan, encoder: Any) -> None:  # noqa: ANN401 handed through
        """Refuse a plan."""
        self._machine.check(plan, encoder)

    def encode(
        self, encoders: Sequence[Any], samples: Sequence[Samples], plans: Sequence[DepthPlan]
    ) -> Sequence[Any]:
        """Encode a chunk of each."""
        before = [encoder.front_end.num_frames for encoder in encoders]
        started_s = time.thread_time()
        frames = self._machine.encode(encoders, samples, plans)
        self.step.encode_s += time.thread_time() - started_s
        self.step.frames += sum(
            encoder.front_end.num_frames - first
            for encoder, first in zip(encoders, before, strict=True)
        )
        return frames

    def hear(self, decoders: Sequence[Any], frames: Sequence[Any]) -> list[int]:
        """Take in what was encoded."""
        started_s = time.thread_time()
        rows = self._machine.hear(decoders, frames)
        self.step.encode_s += time.thread_time() - started_s
        return rows

    def hear_whole(self, windows: Sequence[Samples], plan: DepthPlan) -> list[Any]:
        """Encode whole utterances; not timed, since no stream of a profile is heard twice."""
        return self._machine.hear_whole(windows, plan)

    def complete(self, encoders: Sequence[Any], decoders: Sequence[Any]) -> list[int]:
        """Complete the last groups."""
        return self._machine.complete(encoders, decoders)

    def write(
        self,
        decoders: Sequence[Any],
        most_tokens: Sequence[int],
        ended: Sequence[bool],
        most_calls: int | None,
    ) -> None:
        """Bring transcripts up to date, and count their calls."""
        started_s = time.thread_time()
        self._machine.write(decoders, most_tokens, ended, most_calls)
        self.step.write_s += time.thread_time() - started_s
        self.step.calls = [len(decoder.calls) for decoder in decoders]


@dataclass(slots=True)
class Speaker:
    """One stream: utterance after utterance, a chunk a step, words every `every` chunks."""

    clips: Sequence[Samples]
    clip: int
    at: int
    every: int
    utterance: Any = None  # Any: the runner's
    gained: int = 0

    def request(self, runner: LiveRunner[Any, Any], plan: DepthPlan) -> LiveRequest[Any]:
        """Give the next chunk; the clip's end is the utterance's."""
        if self.utterance is None:
            self.utterance = runner.open_utterance()
        samples = self.clips[self.clip][self.at : self.at + CHUNK_SAMPLES]
        self.at += CHUNK_SAMPLES
        self.gained += 1
        ends = self.at >= len(self.clips[self.clip])
        return LiveRequest(self.utterance, samples, plan, self.gained >= self.every, ends)

    def took(self, request: LiveRequest[Any]) -> None:
        """Go on to the next utterance behind an end."""
        if request.decode or request.ends:
            self.gained = 0
        if request.ends:
            self.utterance, self.at = None, 0
            self.clip = (self.clip + 1) % len(self.clips)


@dataclass(slots=True)
class Observed:
    """Sums over all cases."""

    encode_s: dict[tuple[float, int], list[float]] = field(
        default_factory=dict[tuple[float, int], list[float]]
    )
    writes: list[tuple[float, int, int]] = field(default_factory=list[tuple[float, int, int]])
    calls: dict[str, Counter[int]] = field(default_factory=dict[str, Counter[int]])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, required=True, nargs="+")
    parser.add_argument("--model", default="moonshine-base-elastic")
    parser.add_argument("--engine-cache", type=Path, required=True)
    parser.add_argument("--layers", type=float, nargs="+", default=[8.0, 6.0, 4.0, 3.0])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16, 24, 32])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--note", default="")
    options = parser.parse_args(arguments)
    clips = [read_audio(path) for path in options.clip]
    model = OnnxRecogniser(
        open_checkpoint(options.model), options.engine_cache, read_processor().numerics, 1
    )
    plans = [
        plan for plan in model.catalogue.offered if plan.effective_layers in set(options.layers)
    ]
    seen = Observed()
    for count in options.streams:
        for plan in plans:
            observe(model, plan, clips, count, options.steps, seen)
            print(plan, count, seen.encode_s[plan.effective_layers, count][-1], file=sys.stderr)
    rows = [*encode_rows(seen), decode_row(seen), *call_rows(seen)]
    rows += [second_pass_row(model, plan, clips) for plan in plans]
    rows.append(gate_row(clips))
    run = Run(
        benchmark="service-times",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={
            "model": model.name,
            "engine": f"onnx {model.numerics}",
            "threads": 1,
            "chunk_s": CHUNK_SAMPLES / SAMPLE_RATE_HZ,
            "clips": len(clips),
            "clips_s": round(sum(map(len, clips)) / SAMPLE_RATE_HZ, 1),
            "clock": "CPU time of the thread",
            "note": options.note,
        },
        warm_up=STEPS_BEFORE,
        repeats=options.steps,
    )
    print(json.dumps(document(run, rows)))


def observe(
    model: OnnxRecogniser,
    plan: DepthPlan,
    clips: Sequence[Samples],
    count: int,
    num_steps: int,
    seen: Observed,
) -> None:
    """Run so many streams side by side for some steps."""
    runner = create_live_runner(model)
    machine = TimedMachine(runner._machine)  # pyright: ignore[reportPrivateUsage]
    runner._machine = machine  # pyright: ignore[reportPrivateUsage] to time its parts
    speakers = [
        Speaker(clips, place % len(clips), place * CHUNK_SAMPLES // 2 % 30_000, 1 + place % 2)
        for place in range(count)
    ]
    for step in range(STEPS_BEFORE + num_steps):
        machine.step = Timed()
        requests = [speaker.request(runner, plan) for speaker in speakers]
        gained = [speaker.gained for speaker in speakers]
        runner.step(requests)
        for speaker, request in zip(speakers, requests, strict=True):
            speaker.took(request)
        if step >= STEPS_BEFORE:
            _note(machine.step, requests, gained, (plan.effective_layers, count), seen)


def encode_rows(seen: Observed) -> Iterator[dict[str, object]]:
    """Time of one stream's chunk by layers and streams."""
    for (layers, count), chunk_s in seen.encode_s.items():
        spread = asdict(Spread.of(chunk_s))
        yield {"what": "encode", "layers": layers, "streams": count, "chunk_s": spread}


def decode_row(seen: Observed) -> dict[str, object]:
    """Fit the time of writing: a + b calls + c rows, the steps that were disturbed left out."""
    table = np.array(seen.writes)
    inputs = np.stack([np.ones(len(table)), table[:, 1], table[:, 2]], axis=1)
    kept = np.ones(len(table), bool)
    found, residual = np.zeros(3), table[:, 0]
    for _ in range(5):
        found = np.linalg.lstsq(inputs[kept], table[kept, 0], rcond=None)[0]
        residual = table[:, 0] - inputs @ found
        kept = residual <= 2 * np.median(np.abs(residual[kept])) + 1e-9
    update_s, call_s, row_s = map(float, found)
    return {
        "what": "decode",
        "update_s": update_s,
        "call_s": call_s,
        "row_s": row_s,
        "steps": len(table),
        "steps_kept": int(kept.sum()),
        "median_error": float(np.median(np.abs(residual) / table[:, 0])),
    }


def call_rows(seen: Observed) -> Iterator[dict[str, object]]:
    """How many decoder calls updates took."""
    for gained, counts in sorted(seen.calls.items()):
        yield {"what": "calls", "gained": gained, "counts": dict(sorted(counts.items()))}


def second_pass_row(
    model: OnnxRecogniser, plan: DepthPlan, clips: Sequence[Samples]
) -> dict[str, object]:
    """Fit the time of hearing whole utterances again, one at a time."""
    audio_s = [len(clip) / SAMPLE_RATE_HZ for clip in clips]
    spent_s = [min(_seconds_of(model, plan, clip) for _ in range(3)) for clip in clips]
    slope, base = np.polyfit(audio_s, spent_s, 1)
    return {
        "what": "second_pass",
        "layers": plan.effective_layers,
        "base_s": max(0.0, float(base)),
        "audio_s": float(slope),
    }


def gate_row(clips: Sequence[Samples]) -> dict[str, object]:
    """Time of a frame of the speech gate, in packets of three."""
    listener = SileroGate().listen()
    spent_s: list[float] = []
    for clip in clips:
        size = GATE_PACKET_FRAMES * GATE_FRAME_SAMPLES
        for at in range(0, len(clip) - size, size):
            started_s = time.thread_time()
            listener.push(clip[at : at + size])
            spent_s.append((time.thread_time() - started_s) / GATE_PACKET_FRAMES)
    return {"what": "gate", "frame_s": asdict(Spread.of(spent_s))}


def _note(
    step: Timed,
    requests: Sequence[LiveRequest[Any]],
    gained: Sequence[int],
    case: tuple[float, int],
    seen: Observed,
) -> None:
    chunks = step.frames / CHUNK_FRAMES
    if chunks:
        seen.encode_s.setdefault(case, []).append(step.encode_s / chunks)
    if step.calls:
        seen.writes.append((step.write_s, max(step.calls), sum(step.calls)))
    # Those who were not written have no calls; the runner asks the others in the order given.
    wrote = [(r, g) for r, g in zip(requests, gained, strict=True) if r.decode or r.ends]
    if len(wrote) == len(step.calls):
        for (request, chunks_gained), calls in zip(wrote, step.calls, strict=True):
            key = "ends" if request.ends else str(chunks_gained)
            seen.calls.setdefault(key, Counter())[calls] += 1


def _seconds_of(model: OnnxRecogniser, plan: DepthPlan, samples: Samples) -> float:
    started_s = time.thread_time()
    model.transcribe_windows([samples], plan)
    return time.thread_time() - started_s


if __name__ == "__main__":
    main()
