"""The seam between the service and whatever turns audio into words: plain data and one protocol.

Behind it stand the model, the decoding of uploads and the speech gate. In front of it nobody knows
torch, ONNX Runtime or `model_store`. Engines raise errors of `service.errors` alone for what a
caller did; anything else they raise is a fault of ours.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
"""The rate of every `Window`, whatever the upload had."""

Samples = npt.NDArray[np.float32]
"""Mono, [-1, 1], at `SAMPLE_RATE_HZ`."""

AUTO = "auto"
"""The drop of a caller who leaves the depth to us."""

LADDER = "ladder"
"""The policy whose plans a stream may move along, and whose word errors are on the card."""

_TOLERANCE_LAYERS = 1e-9


@dataclass(frozen=True, slots=True)
class DepthChoice:
    """What a caller asks for on the dial."""

    drop: float | Literal["auto"] = AUTO
    max_drop: float | None = None
    policy: str = LADDER


@dataclass(frozen=True, slots=True)
class PlanInUse:
    """A depth plan as the answer reports it: strides per layer, 0 for a skipped one.

    Args:
        by_input: the strides are but an example of the budget: what is heard picks those of each
            window, or of each utterance, with as many effective layers.
    """

    strides: tuple[int, ...]
    effective_layers: float
    layers_total: int
    drop: float
    by_input: bool = False

    @property
    def layers_text(self) -> str:
        """Effective layers over all layers, as in `4/8` or `1.5/8`."""
        return f"{self.effective_layers:g}/{self.layers_total}"

    @property
    def strides_text(self) -> str:
        """Strides between commas, as in `2,2,1,1`."""
        return ",".join(map(str, self.strides))


@dataclass(frozen=True, slots=True)
class StepTime:
    """How long live steps take at a depth: `fixed_s + streams * per_stream_s` for a chunk of each.

    Args:
        fixed_s: of a step, whatever is in it.
        per_stream_s: for each stream's chunk and its words.
    """

    fixed_s: float
    per_stream_s: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is served: the plans of the ladder (deepest first) and the names of the policies.

    Args:
        chunk_s: seconds of one chunk of a live stream; 0 where live streams are not served.
        max_utterance_s: the longest utterance a stream may have.
        wer_ratios: of each offered plan, its word error rate over that at full depth; None where
            that was not measured. Empty where nothing was.
        step_times: of the deepest and of the shallowest offered plan, measured while loading; empty
            where they were not.
        speech_scale: so many times `step_times` that steps over many who speak are expected to take
            until it is known.
        takes_hotwords: whether hotwords make a difference to what is written.
    """

    name: str
    layers_total: int
    offered: tuple[PlanInUse, ...]
    policies: tuple[str, ...]
    chunk_s: float = 0.0
    max_utterance_s: float = 28.0
    wer_ratios: tuple[float | None, ...] = ()
    step_times: tuple[StepTime, ...] = ()
    speech_scale: float = 1.0
    takes_hotwords: bool = False

    def depth_label(self, plan: PlanInUse) -> str:
        """Name the offered budget at or below a plan's effective layers, for metrics."""
        budgets = [offered.effective_layers for offered in self.offered]
        below = [b for b in budgets if b <= plan.effective_layers + _TOLERANCE_LAYERS]
        return f"{max(below, default=min(budgets)):g}"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a file that is transcribed in one go; without speech its samples are not run.

    Args:
        hotwords: words that may come in it; the same for all windows of a step.
    """

    samples: Samples
    start_s: float
    end_s: float
    speech: bool
    hotwords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its times in the file and the model's confidence in [0, 1]."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Segment:
    """The words of one window, and what the decoder says of their quality."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stretch of work took: estimated operations, and seconds of the engine's thread.

    Args:
        flops: all of what was run.
        encoder_flops: front end and layers.
        full_flops: what the same work would have been at full depth.
        encode_s: time in the encoder.
        decode_s: time from encoder states to words.
    """

    flops: int = 0
    encoder_flops: int = 0
    full_flops: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops + other.flops,
            self.encoder_flops + other.encoder_flops,
            self.full_flops + other.full_flops,
            self.encode_s + other.encode_s,
            self.decode_s + other.decode_s,
        )


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one engine step gives back for its windows, in order.

    Args:
        segments: of each window.
        costs: of each window.
        plans: of the windows with speech, where the input picked them; else empty.
    """

    segments: tuple[Segment, ...]
    costs: tuple[Cost, ...]
    plans: tuple[PlanInUse, ...] = ()

    @property
    def cost(self) -> Cost:
        """What the whole step took."""
        return sum(self.costs, Cost())

    def split(self, num_windows: int) -> tuple["StepResult", "StepResult"]:
        """Give the result of the first windows, and of the rest; not where the input picks plans."""
        assert not self.plans, "expected windows that share a plan"
        return (
            StepResult(self.segments[:num_windows], self.costs[:num_windows]),
            StepResult(self.segments[num_windows:], self.costs[num_windows:]),
        )


class LiveUtterance(Protocol):
    """The engine's state of one utterance of a stream; nobody else looks inside."""

    @property
    def state_bytes(self) -> int:
        """Bytes that the caches take up now."""
        ...


class SpeechListener(Protocol):
    """The speech gate's state of one stream; nobody else looks inside."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveInput:
    """One stream's share of a live step.

    Args:
        utterance: from `open_utterance`; at most once in a step.
        samples: follow those that the utterance has had already; any number, none too.
        plan: of the chunks that these samples complete. Strides may differ from the last step's;
            a plan with skipped layers holds for its utterance.
        decode: whether words are asked for; without, the step only encodes.
        ends: nothing follows: the last chunk is completed and the text decoded to its end.
        second_pass: with `ends`, run the whole utterance again with full context for its words.
        hotwords: words that may come in what is not stable yet.
    """

    utterance: LiveUtterance
    samples: Samples
    plan: PlanInUse
    decode: bool = True
    ends: bool = False
    second_pass: bool = False
    hotwords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveOutput:
    """What the step makes of one stream.

    Args:
        words: of the utterance so far, times from its start. Without `decode`, those of last time.
        stable_words: how many of them, from the first, no later output changes; all at the end.
        encoded_s: seconds from the utterance's start that the encoder has taken in; all at the end.
        cost: of this step's share.
        plan: the one that the input picked, where it does; None for the one asked for.
        done: whether all is written that was asked for; if not, which only happens with `ends`, the
            same input without samples goes on with it in a later step, and its words come then.
    """

    words: tuple[Word, ...]
    stable_words: int
    encoded_s: float
    cost: Cost
    plan: PlanInUse | None = None
    done: bool = True


@dataclass(frozen=True, slots=True)
class ListenInput:
    """New samples of one stream for the speech gate; any number."""

    listener: SpeechListener
    samples: Samples


GATE_FRAME_SAMPLES = 512
"""The speech gate gives one probability for each 32 ms that are complete."""


class Engine(Protocol):
    """Turns audio into words; every method blocks and belongs on a worker thread.

    `load` comes first and once. `choose`, `open_windows`, `open_utterance` and `open_listener` may
    run beside a step and beside each other; `transcribe`, `step` and `listen` are called by one
    thread at a time. What is opened needs no closing: dropping the last reference frees it.
    """

    def load(self) -> ModelInfo:
        """Load and warm up.

        Raises:
            ModelUnusable: the model cannot be loaded.
        """
        ...

    def choose(self, drop: float, max_drop: float | None, policy: str) -> PlanInUse:
        """Give the plan for a budget; arithmetic alone, quick enough for any thread.

        Raises:
            DepthError: the depth asked for is not on offer.
        """
        ...

    def open_windows(self, source: BinaryIO, *, max_s: float) -> Generator[Window]:
        """Decode and cut lazily, a window at a time, so that a long file never lies decoded in memory.

        Raises:
            AudioError: while iterating, as soon as it is known.
        """
        ...

    def transcribe(self, windows: Sequence[Window], plan: PlanInUse) -> StepResult:
        """Run one step over windows that share a plan."""
        ...

    def open_utterance(self) -> LiveUtterance:
        """Begin an utterance: positions count from its first sample. Quick."""
        ...

    def step(self, inputs: Sequence[LiveInput]) -> Sequence[LiveOutput]:
        """Run one step over all streams that are due, whatever their plans; in the order given.

        Raises:
            PlanInvalid: skipped layers changed inside an utterance.
        """
        ...

    def open_listener(self) -> SpeechListener:
        """Begin listening to a stream. Quick."""
        ...

    def listen(self, inputs: Sequence[ListenInput]) -> Sequence[Samples]:
        """Give the probability of speech of every gate frame that the samples complete."""
        ...
