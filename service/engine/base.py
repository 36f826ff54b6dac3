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

_TOLERANCE_LAYERS = 1e-9


@dataclass(frozen=True, slots=True)
class DepthChoice:
    """What a caller asks for on the dial."""

    drop: float | Literal["auto"] = AUTO
    max_drop: float | None = None
    policy: str = "ladder"


@dataclass(frozen=True, slots=True)
class PlanInUse:
    """A depth plan as the answer reports it: strides per layer, 0 for a skipped one."""

    strides: tuple[int, ...]
    effective_layers: float
    layers_total: int
    drop: float

    @property
    def layers_text(self) -> str:
        """Effective layers over all layers, as in `4/8` or `1.5/8`."""
        return f"{self.effective_layers:g}/{self.layers_total}"

    @property
    def strides_text(self) -> str:
        """Strides between commas, as in `2,2,1,1`."""
        return ",".join(map(str, self.strides))


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is served: the plans of the ladder (deepest first) and the names of the policies."""

    name: str
    layers_total: int
    offered: tuple[PlanInUse, ...]
    policies: tuple[str, ...]

    def depth_label(self, plan: PlanInUse) -> str:
        """Name the offered budget at or below a plan's effective layers, for metrics."""
        budgets = [offered.effective_layers for offered in self.offered]
        below = [b for b in budgets if b <= plan.effective_layers + _TOLERANCE_LAYERS]
        return f"{max(below, default=min(budgets)):g}"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a file that is transcribed in one go; without speech its samples are not run."""

    samples: Samples
    start_s: float
    end_s: float
    speech: bool


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
    """What one engine step gives back: a segment for each window, in order, and the step's cost."""

    segments: tuple[Segment, ...]
    cost: Cost


class Engine(Protocol):
    """Turns windows of audio into segments; every method blocks and belongs on a worker thread.

    `load` comes first and once. `choose` and `open_windows` may run beside a step and beside each
    other; `transcribe` is called by one thread at a time.
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
