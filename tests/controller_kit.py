"""A controller before a queue that answers to the depth."""

import math
import random
from collections.abc import Callable, Sequence

from service.scheduling.brownout import Brownout
from service.scheduling.controller import (
    BudgetController,
    Decision,
    DimmerLaw,
    Reading,
)
from service.scheduling.levels import DepthLevel
from service.scheduling.slack import Slack, StepProfile

SETPOINT_S = 0.3
TICK_S = 0.25
CHUNK_S = 0.5
LAYERS = (8, 7, 6, 5, 4, 3)
LEVELS = tuple(
    DepthLevel(layers, 1 - layers / 8, 1 + 0.05 * index) for index, layers in enumerate(LAYERS)
)
FLOOR = LEVELS[-1].dimmer


def cost_of(dimmer: float, fixed: float = 0.4) -> float:
    """What a second of a stream takes of the engine, times that at full depth."""
    return fixed + (1 - fixed) * dimmer


def new_brownout(pole: float = 0.9) -> Brownout:
    return Brownout(setpoint_s=SETPOINT_S, floor=FLOOR, pole=pole)


def new_slack(full_s: float = 0.02) -> Slack:
    table = [StepProfile(level.layers, 0.01, full_s * cost_of(level.dimmer)) for level in LEVELS]
    return Slack(table, layers_total=8, setpoint_s=SETPOINT_S, chunk_s=CHUNK_S)


def new_controller(
    law: DimmerLaw | None = None, levels: Sequence[DepthLevel] = LEVELS
) -> BudgetController:
    return BudgetController(law or new_brownout(), levels, setpoint_s=SETPOINT_S)


class QueuePlant:
    """Streams before one engine: a backlog grows where they ask more than there is.

    Args:
        num_streams: by the time.
        full_s: engine seconds for a stream's chunk at full depth.
        noise: standard deviation of the measured latency, as a share.
        swell: share by which a chunk's cost goes up and down, as when all speak and none does.
        swell_s: period of that.
    """

    def __init__(
        self,
        controller: BudgetController,
        num_streams: Callable[[float], int],
        *,
        full_s: float = 0.02,
        noise: float = 0.1,
        seed: int = 0,
        swell: float = 0.0,
        swell_s: float = 60.0,
    ) -> None:
        self.controller = controller
        self.now_s = 0.0
        self.decisions: list[Decision] = []
        self.latencies: list[tuple[float, float]] = []
        self._num_streams = num_streams
        self._full_s = full_s
        self._noise = noise
        self._swell, self._swell_s = swell, swell_s
        self._random = random.Random(seed)
        self._backlog_s = 0.0

    def run(self, until_s: float) -> "QueuePlant":
        while self.now_s < until_s:
            self.now_s += TICK_S
            decision = self.controller.tick(self._read())
            if decision is not None:
                self.decisions.append(decision)
        return self

    def _read(self) -> Reading:
        count = self._num_streams(self.now_s)
        if not count:
            self._backlog_s = 0.0
            return Reading(self.now_s, 0.0, 0, 0)
        swell = 1 + self._swell * math.sin(2 * math.pi * self.now_s / self._swell_s)
        busy = count * self._full_s * swell * cost_of(self.controller.level.dimmer) / CHUNK_S
        self._backlog_s = max(0.0, self._backlog_s + (busy - 1) * TICK_S)
        round_s = 0.01 / (1 - min(busy, 0.98)) + self._full_s
        latency_s = self._backlog_s + 2 * round_s
        self.latencies.append((self.now_s, latency_s))
        noisy_s = latency_s * max(0.2, self._random.gauss(1, self._noise))
        return Reading(self.now_s, noisy_s, 2 * count, count, min(1.0, busy))


def capacity(full_s: float = 0.02) -> float:
    """Streams that the floor just holds."""
    return CHUNK_S / (full_s * cost_of(FLOOR))
