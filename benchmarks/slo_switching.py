"""An engine that opens new utterances on a second, static model while load is high.

What a service without a depth dial can do with two models in memory: whoever speaks on keeps the
model that began the utterance, whoever begins one gets the small model. Only for comparison.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from service.engine.base import (
    Engine,
    ListenInput,
    LiveInput,
    LiveOutput,
    LiveUtterance,
    ModelInfo,
    PlanInUse,
    Samples,
    SpeechListener,
    StepResult,
    Window,
)

RECENT_STEPS = 24
"""Steps that the load is taken from: some five seconds of a busy server."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Between which load new utterances stay where they went last.

    Args:
        above_s: of the 95th percentile of recent steps; beyond, the second model takes over.
        below_s: under it, the first does again.
    """

    above_s: float
    below_s: float


@dataclass(slots=True)
class SwitchedUtterance:
    """One model's utterance, and which model's."""

    utterance: LiveUtterance
    second: bool

    @property
    def state_bytes(self) -> int:
        """Bytes of the model's caches."""
        return self.utterance.state_bytes


class SwitchingEngine:
    """Two engines as one: files, gate and dial are the first's.

    Args:
        first: serves while there is room.
        second: takes new utterances under load, at its full depth.
        thresholds: of the load.
        clock: measures steps.
        tally: file that is told how many utterances went to each; None to tell nobody.
    """

    def __init__(
        self,
        first: Engine,
        second: Engine,
        thresholds: Thresholds,
        *,
        clock: Callable[[], float] = time.monotonic,
        tally: Path | None = None,
    ) -> None:
        self._first = first
        self._second = second
        self._thresholds = thresholds
        self._clock = clock
        self._tally = tally
        self._steps_s: deque[float] = deque(maxlen=RECENT_STEPS)
        self._switched = False
        self._opened = [0, 0]
        self._second_plan: PlanInUse | None = None

    @property
    def switched(self) -> bool:
        """Whether new utterances go to the second model."""
        load_s = float(np.percentile(self._steps_s, 95)) if self._steps_s else 0.0
        if load_s > self._thresholds.above_s:
            self._switched = True
        elif load_s < self._thresholds.below_s:
            self._switched = False
        return self._switched

    def load(self) -> ModelInfo:
        """Load both; describe the first."""
        second = self._second.load()
        self._second_plan = second.offered[0]
        first = self._first.load()
        assert first.chunk_s == second.chunk_s, "expected two models of one chunk size"
        return first

    def choose(self, drop: float, max_drop: float | None, policy: str) -> PlanInUse:
        """Ask the first."""
        return self._first.choose(drop, max_drop, policy)

    def open_windows(self, source: BinaryIO, *, max_s: float) -> Generator[Window]:
        """Ask the first."""
        return self._first.open_windows(source, max_s=max_s)

    def transcribe(self, windows: Sequence[Window], plan: PlanInUse) -> StepResult:
        """Ask the first."""
        return self._first.transcribe(windows, plan)

    def open_utterance(self) -> LiveUtterance:
        """Begin an utterance on the model whose turn it is."""
        second = self.switched
        self._opened[second] += 1
        if self._tally is not None:
            self._tally.write_text("{} {}".format(*self._opened), encoding="ascii")
        engine = self._second if second else self._first
        return SwitchedUtterance(engine.open_utterance(), second)

    def step(self, inputs: Sequence[LiveInput]) -> Sequence[LiveOutput]:
        """Step each model over its own utterances."""
        started_s = self._clock()
        outputs: dict[int, LiveOutput] = {}
        for second, engine in ((False, self._first), (True, self._second)):
            mine = [i for i, one in enumerate(inputs) if _of(one).second == second]
            if mine:
                found = engine.step([self._own(inputs[i]) for i in mine])
                outputs |= dict(zip(mine, found, strict=True))
        self._steps_s.append(self._clock() - started_s)
        return [outputs[i] for i in range(len(inputs))]

    def open_listener(self) -> SpeechListener:
        """Ask the first."""
        return self._first.open_listener()

    def listen(self, inputs: Sequence[ListenInput]) -> Sequence[Samples]:
        """Ask the first."""
        return self._first.listen(inputs)

    def _own(self, one: LiveInput) -> LiveInput:
        switched = _of(one)
        assert self._second_plan is not None, "load comes first"
        plan = self._second_plan if switched.second else one.plan
        return replace(one, utterance=switched.utterance, plan=plan)


def read_tally(path: Path) -> tuple[int, int]:
    """Read how many utterances each model has been given; none where nothing was written."""
    try:
        first, second = path.read_text(encoding="ascii").split()
        return int(first), int(second)
    except (OSError, ValueError):
        return 0, 0


def _of(one: LiveInput) -> SwitchedUtterance:
    assert isinstance(one.utterance, SwitchedUtterance), "an utterance of this engine"
    return one.utterance
