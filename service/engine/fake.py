"""A deterministic engine without a model, for tests, demos and load tests of everything else.

It reads PCM wav alone, says one word of the NATO alphabet for each half second that is not silent,
and hears worse the shallower it runs: at half depth every second word becomes "um", unless it is a
hotword. Live streams are in `fake_live`.
"""

import time
import wave
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import BinaryIO

import numpy as np

from service.engine.base import (
    SAMPLE_RATE_HZ,
    Cost,
    ListenInput,
    LiveInput,
    LiveOutput,
    ModelInfo,
    PlanInUse,
    Samples,
    Segment,
    StepResult,
    StepTime,
    Window,
)
from service.engine.fake_live import CHUNK_S, FakeListener, FakeUtterance
from service.engine.fake_words import (
    FIXED_FLOPS_PER_S,
    LAYER_FLOPS_PER_S,
    NUM_LAYERS,
    SILENCE_PEAK,
    WORD_S,
    word_at,
)
from service.errors import (
    AudioEmpty,
    AudioFormatUnsupported,
    AudioTooLong,
    AudioTruncated,
    AudioUndecodable,
    DepthRefused,
    DropOutOfRange,
    PolicyUnknown,
)

BUDGETS = (8.0, 4.0, 2.0, 1.0)
WER_RATIOS = (1.0, 1.25, 1.5, 2.0)
"""Of each budget; what a card would say of this engine's words if they were speech."""
WINDOW_S = 8.0
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8

POLICIES = ("ladder", "skip")

StepHook = Callable[[Sequence[Window], PlanInUse], None]
LiveHook = Callable[[Sequence[LiveInput]], None]


class FakeEngine:
    """Words without a model.

    Args:
        realtime_factor: seconds each step takes per second of speech at full depth.
        before_load: called first in `load`; may raise or block.
        before_step: called first in `transcribe`; may raise or block.
        before_live_step: called first in `step`; may raise or block.
        sleep: how time is spent.
    """

    def __init__(
        self,
        *,
        realtime_factor: float = 0.0,
        before_load: Callable[[], None] = lambda: None,
        before_step: StepHook = lambda _windows, _plan: None,
        before_live_step: LiveHook = lambda _inputs: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._realtime_factor = realtime_factor
        self._before_load = before_load
        self._before_step = before_step
        self._before_live_step = before_live_step
        self._sleep = sleep

    def load(self) -> ModelInfo:
        """Describe a model of eight layers with four budgets."""
        self._before_load()
        offered = tuple(_uniform(budget) for budget in BUDGETS)
        times = tuple(
            StepTime(0.0, CHUNK_S * self._realtime_factor * budget / NUM_LAYERS)
            for budget in (BUDGETS[0], BUDGETS[-1])
        )
        return ModelInfo(
            "fake-elastic",
            NUM_LAYERS,
            offered,
            POLICIES,
            chunk_s=CHUNK_S,
            wer_ratios=WER_RATIOS,
            step_times=times,
            takes_hotwords=True,
        )

    def choose(self, drop: float, max_drop: float | None, policy: str) -> PlanInUse:
        """Give the deepest of the four plans within the budget."""
        for name, value in (("drop", drop), ("max_drop", max_drop)):
            if value is not None and not 0 <= value < 1:
                raise DropOutOfRange(f"expected {name} in [0, 1), got {value!r}")
        if policy not in POLICIES:
            raise PolicyUnknown(f"expected one of {', '.join(POLICIES)}, got {policy!r}")
        if max_drop is not None and drop > max_drop:
            raise DepthRefused(f"expected drop at most max_drop {max_drop:g}, got {drop:g}")
        budget = (1 - drop) * NUM_LAYERS + 1e-9
        offered = next((b for b in BUDGETS if b <= budget), BUDGETS[-1])
        plan = _uniform(offered) if policy == "ladder" else _first_layers(offered)
        if max_drop is not None and plan.drop > max_drop:
            raise DepthRefused(
                f"expected a plan that drops at most {max_drop:g}, got {plan.drop:g}"
            )
        return plan

    def open_windows(self, source: BinaryIO, *, max_s: float) -> Generator[Window]:
        """Cut wav audio into windows of eight seconds."""
        blocks = _read_wav(source, block_s=WINDOW_S)
        start_s = 0.0
        for samples in blocks:
            end_s = start_s + len(samples) / SAMPLE_RATE_HZ
            if end_s > max_s:
                raise AudioTooLong(f"expected at most {max_s:g} s of audio, got more")
            yield Window(samples, start_s, end_s, speech=_peak(samples) > SILENCE_PEAK)
            start_s = end_s
        if not start_s:
            raise AudioEmpty("expected audio, got a container without a single sample")

    def transcribe(self, windows: Sequence[Window], plan: PlanInUse) -> StepResult:
        """Say the words that stand at each window's place in the file."""
        self._before_step(windows, plan)
        result = StepResult(
            tuple(_segment(window, plan) for window in windows),
            tuple(self._cost(window, plan) for window in windows),
        )
        self._sleep(result.cost.encode_s)
        return result

    def _cost(self, window: Window, plan: PlanInUse) -> Cost:
        if not window.speech:
            return Cost()
        speech_s = window.end_s - window.start_s
        elastic = plan.effective_layers / plan.layers_total
        encoder_flops = round(speech_s * LAYER_FLOPS_PER_S * plan.effective_layers)
        fixed_flops = round(speech_s * FIXED_FLOPS_PER_S)
        full_flops = round(speech_s * LAYER_FLOPS_PER_S * plan.layers_total) + fixed_flops
        busy_s = speech_s * self._realtime_factor * elastic
        return Cost(encoder_flops + fixed_flops, encoder_flops, full_flops, busy_s, 0.0)

    def open_utterance(self) -> FakeUtterance:
        """Begin an utterance."""
        return FakeUtterance()

    def step(self, inputs: Sequence[LiveInput]) -> Sequence[LiveOutput]:
        """Take every stream's samples in, then spend the time that all of it costs."""
        self._before_live_step(inputs)
        outputs = [FakeUtterance.of(one).take(one, self._realtime_factor) for one in inputs]
        self._sleep(sum(one.cost.encode_s for one in outputs))
        return outputs

    def open_listener(self) -> FakeListener:
        """Begin listening to a stream."""
        return FakeListener()

    def listen(self, inputs: Sequence[ListenInput]) -> Sequence[Samples]:
        """Judge each complete frame by its level alone; costs no time."""
        return [FakeListener.of(one).hear(one.samples) for one in inputs]


def _uniform(budget: float) -> PlanInUse:
    stride = round(NUM_LAYERS / budget)
    return PlanInUse((stride,) * NUM_LAYERS, budget, NUM_LAYERS, 1 - budget / NUM_LAYERS)


def _first_layers(budget: float) -> PlanInUse:
    kept = round(budget)
    strides = (1,) * kept + (0,) * (NUM_LAYERS - kept)
    return PlanInUse(strides, budget, NUM_LAYERS, 1 - budget / NUM_LAYERS)


def _peak(samples: Samples) -> float:
    return float(np.abs(samples).max(initial=0.0))


def _segment(window: Window, plan: PlanInUse) -> Segment:
    if not window.speech:
        return Segment(window.start_s, window.end_s, "", no_speech=True)
    first = round(window.start_s / WORD_S)
    count = int((window.end_s - window.start_s) / WORD_S)
    words = tuple(word_at(index, plan, window.hotwords) for index in range(first, first + count))
    return Segment(
        window.start_s,
        window.end_s,
        " ".join(word.text for word in words),
        words,
        avg_logprob=-0.1,
        compression_ratio=1.0,
    )


def _read_wav(source: BinaryIO, *, block_s: float) -> Iterator[Samples]:
    """Decode block by block; rates are brought to 16 kHz by taking the nearest sample."""
    if not source.read(1):
        raise AudioEmpty("expected audio, got an empty body")
    source.seek(0)
    try:
        reader = wave.open(source, "rb")  # noqa: SIM115 the source belongs to the caller
    except (wave.Error, EOFError) as error:
        raise AudioUndecodable("expected a PCM wav file, got something else") from error
    rate_hz, channels, width = reader.getframerate(), reader.getnchannels(), reader.getsampwidth()
    if width != 2 or not 0 < rate_hz <= MAX_RATE_HZ or channels > MAX_CHANNELS:  # noqa: PLR2004
        raise AudioFormatUnsupported(
            f"expected 16-bit audio of at most {MAX_RATE_HZ} Hz and {MAX_CHANNELS} channels, "
            f"got {8 * width} bits at {rate_hz} Hz and {channels} channels"
        )
    left_frames = reader.getnframes()
    while left_frames:
        wanted_frames = min(left_frames, round(block_s * rate_hz))
        pcm = reader.readframes(wanted_frames)
        if len(pcm) < wanted_frames * channels * width:
            raise AudioTruncated("expected as much audio as the header promises, got less")
        left_frames -= wanted_frames
        mono = np.frombuffer(pcm, dtype="<i2").reshape(-1, channels).mean(axis=1) / 2**15
        kept = round(len(mono) / rate_hz * SAMPLE_RATE_HZ)
        nearest = np.arange(kept) * len(mono) // max(kept, 1)
        yield mono[nearest].astype(np.float32)
