"""An engine that takes measured time and no computing: it counts samples, chunks and decoder calls.

A word is written for every 0.4 s that the encoder has taken in; which words is no matter here, only
that a caption has some. What depth costs in words comes from the card, not from this.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from benchmarks.simulator.model_card import ModelCard
from benchmarks.simulator.service_times import ServiceTimes
from benchmarks.simulator.speech import ScriptedListener
from model_store.decoding.live_runner import FINAL_CALLS
from service.engine.base import (
    SAMPLE_RATE_HZ,
    Cost,
    ListenInput,
    LiveInput,
    LiveOutput,
    ModelInfo,
    PlanInUse,
    Samples,
    StepResult,
    StepTime,
    Window,
    Word,
)
from service.engine.step_times import BATCH

CHUNK_FRAMES = 24
FRAME_SAMPLES, RECEPTIVE_SAMPLES = 384, 895
"""Frame t reads so many samples from `FRAME_SAMPLES` * t on; of the shipped model, as chunks are."""
WORD_S = 0.4
SETTLED_S = 1.0
"""A word this old is stable."""
STEP_TIME_CALLS = 1
"""Decoder calls of an update over noise, in which there is hardly a word."""
_MOST_WORDS = 256


@dataclass(slots=True)
class CountedUtterance:
    """How much of an utterance came in and was encoded, and how much of that was written."""

    num_samples: int = 0
    num_frames: int = 0
    unwritten_frames: int = 0
    calls_left: int = 0

    @property
    def state_bytes(self) -> int:
        """Nothing is kept."""
        return 0

    @staticmethod
    def of(one: LiveInput) -> "CountedUtterance":
        """Give the state of an input."""
        assert isinstance(one.utterance, CountedUtterance), "an utterance of this engine"
        return one.utterance

    def take(self, one: LiveInput) -> int:
        """Take samples in and give the frames that were encoded: whole chunks, all at the end."""
        self.num_samples += len(one.samples)
        there = max(0, (self.num_samples - RECEPTIVE_SAMPLES) // FRAME_SAMPLES + 1)
        frames = there - self.num_frames
        if not one.ends:
            frames -= frames % CHUNK_FRAMES
        self.num_frames += frames
        self.unwritten_frames += frames
        return frames

    def encoded_s(self, *, ended: bool) -> float:
        """Seconds that the encoder has taken in."""
        if ended or not self.num_frames:
            return self.num_samples / SAMPLE_RATE_HZ if ended else 0.0
        return ((self.num_frames - 1) * FRAME_SAMPLES + RECEPTIVE_SAMPLES) / SAMPLE_RATE_HZ


class SimulatedEngine:
    """Behind the seam of `service.engine.base`, for live streams alone.

    Args:
        card: what is offered.
        times: what it takes.
        spend: lets time pass.
        num_streams: streams whose sockets the core serves beside the engine.
        seed: draws how many decoder calls an update takes.
    """

    def __init__(
        self,
        card: ModelCard,
        times: ServiceTimes,
        spend: Callable[[float], None],
        num_streams: Callable[[], int],
        seed: int,
    ) -> None:
        self._card = card
        self._times = times
        self._spend = spend
        self._num_streams = num_streams
        self._draw = np.random.default_rng(seed)
        self._chosen: dict[tuple[float, float | None], PlanInUse] = {}
        self._words = tuple(
            Word("word", WORD_S * place, WORD_S * (place + 1), 1.0) for place in range(_MOST_WORDS)
        )
        self.next_speech: Samples = np.zeros(0, np.float32)  # of the stream that is opened next

    def load(self) -> ModelInfo:
        """Describe the model of the card."""
        plans, full = self._card.plans, self._card.full
        chunk_s = CHUNK_FRAMES * FRAME_SAMPLES / SAMPLE_RATE_HZ
        return ModelInfo(
            "simulated",
            full.layers_total,
            plans,
            ("ladder",),
            chunk_s=chunk_s,
            wer_ratios=tuple(self._card.wer_ratio(plan.effective_layers) for plan in plans),
            step_times=(self._step_time(plans[0]), self._step_time(plans[-1])),
            speech_scale=self._times.speech_scale,
        )

    def choose(self, drop: float, max_drop: float | None, policy: str) -> PlanInUse:
        """Give the deepest plan within the budget."""
        del policy  # the ladder's plans alone have a word error rate
        key = (drop, max_drop)
        if key not in self._chosen:
            budget = (1 - drop) * self._card.full.layers_total + 1e-9
            plans = self._card.plans
            self._chosen[key] = next((p for p in plans if p.effective_layers <= budget), plans[-1])
        return self._chosen[key]

    def open_windows(self, source: BinaryIO, *, max_s: float) -> Generator[Window]:
        """Refuse: files are not simulated."""
        raise NotImplementedError("expected live streams alone, got a file")

    def transcribe(self, windows: Sequence[Window], plan: PlanInUse) -> StepResult:
        """Refuse: files are not simulated."""
        raise NotImplementedError("expected live streams alone, got a file")

    def open_utterance(self) -> CountedUtterance:
        """Begin an utterance."""
        return CountedUtterance()

    def open_listener(self) -> ScriptedListener:
        """Begin listening to the stream that was announced by `next_speech`."""
        return ScriptedListener(self.next_speech)

    def listen(self, inputs: Sequence[ListenInput]) -> Sequence[Samples]:
        """Hear what was drawn."""
        found = [ScriptedListener.of(one).hear(len(one.samples)) for one in inputs]
        self._take(self._times.gate_frame_s * sum(map(len, found)))
        return found

    def step(self, inputs: Sequence[LiveInput]) -> Sequence[LiveOutput]:
        """Take the time of all chunks, updates and second passes."""
        took = [CountedUtterance.of(one).take(one) for one in inputs]
        chunks = [
            0.0 if one.ends and one.second_pass else frames / CHUNK_FRAMES
            for one, frames in zip(inputs, took, strict=True)
        ]
        encode_s = self._times.encode_s([one.plan.effective_layers for one in inputs], chunks)
        calls = self._calls_now(inputs)
        decode_s = self._times.write_s([count for count in calls if count])
        again_s = sum(
            self._times.second_s(
                one.plan.effective_layers, CountedUtterance.of(one).num_samples / SAMPLE_RATE_HZ
            )
            for one in inputs
            if one.ends and one.second_pass
        )
        self._take(encode_s + decode_s + again_s)
        share_s = (encode_s / len(inputs), (decode_s + again_s) / len(inputs))
        return [
            self._output(one, frames, share_s) for one, frames in zip(inputs, took, strict=True)
        ]

    def _step_time(self, plan: PlanInUse) -> StepTime:
        """Say what the real engine measures of itself while it loads; see `with_step_times`."""
        one_s, many_s = (
            self._times.encode_s([plan.effective_layers] * count, [1.0] * count)
            + self._times.write_s([STEP_TIME_CALLS] * count)
            for count in (1, BATCH)
        )
        per_stream_s = min(many_s / BATCH, max(0.0, (many_s - one_s) / (BATCH - 1)))
        return StepTime(max(0.0, one_s - per_stream_s), per_stream_s)

    def _take(self, seconds: float) -> None:
        # Sockets and messages run on the same core, so the engine gets what they leave.
        left = max(0.05, 1 - self._times.background * self._num_streams())
        if seconds:
            self._spend(seconds / left)

    def _calls_now(self, inputs: Sequence[LiveInput]) -> list[int]:
        """Give the calls that each takes part in: finals wait for the next step after a few."""
        wanted = [CountedUtterance.of(one).calls_left or self._calls(one) for one in inputs]
        partials = [count for one, count in zip(inputs, wanted, strict=True) if not one.ends]
        most = max([FINAL_CALLS, *partials])
        for one, count in zip(inputs, wanted, strict=True):
            CountedUtterance.of(one).calls_left = max(0, count - most)
        return [min(count, most) for count in wanted]

    def _calls(self, one: LiveInput) -> int:
        """Draw how many decoder calls this stream's update takes."""
        utterance = CountedUtterance.of(one)
        if one.ends and one.second_pass:
            return 0
        if not one.ends and not (one.decode and utterance.unwritten_frames):
            return 0
        gained = -(-utterance.unwritten_frames // CHUNK_FRAMES)
        utterance.unwritten_frames = 0
        seen = self._times.calls[0] if one.ends else self._times.calls_of(gained)
        return seen[int(self._draw.integers(len(seen)))]

    def _output(self, one: LiveInput, frames: int, share_s: tuple[float, float]) -> LiveOutput:
        encoded_s = CountedUtterance.of(one).encoded_s(ended=one.ends)
        num_words = min(_MOST_WORDS, int(encoded_s / WORD_S))
        settled = num_words if one.ends else min(num_words, int((encoded_s - SETTLED_S) / WORD_S))
        audio_s, layers = frames * FRAME_SAMPLES / SAMPLE_RATE_HZ, one.plan.effective_layers
        cost = Cost(
            round(self._card.flops_per_s[layers] * audio_s),
            round(self._card.encoder_flops_per_s[layers] * audio_s),
            round(self._card.flops_per_s[self._card.full.effective_layers] * audio_s),
            *share_s,
        )
        done = not CountedUtterance.of(one).calls_left
        return LiveOutput(self._words[:num_words], max(0, settled), encoded_s, cost, done=done)
