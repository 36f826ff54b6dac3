"""Loads of a fleet: how many people speak at a moment, whoever is let in.

A load is a curve and a mean length of streams. From both follow the comings, `N' + N / length`: drawn
one by one for the detailed mode, taken as a flow by the fluid one. A curve that falls faster than
streams end is met as fast as they do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from benchmarks.simulator.traces import LEAST_STREAM_S, Arrival, Trace

LoadName = Literal["step", "diurnal", "burst"]
LOADS: tuple[LoadName, ...] = get_args(LoadName)

TICK_S = 0.25
STEP_AT_S, STEP_TAKES_S = 60.0, 1.0
BURSTS_EVERY_S, BURST_FOR_S = 600.0, 60.0
LOW = 1 / 9
"""Share of the peak before a step, between bursts and at night: a step to three replicas starts from a third of one."""


@dataclass(frozen=True, slots=True)
class FleetLoad:
    """Who speaks when.

    Args:
        name: its shape.
        peak: streams at its highest.
        seconds: its length.
        stream_s: mean length of a stream; lengths are exponential.
    """

    name: LoadName
    peak: float
    seconds: float
    stream_s: float = 300.0

    def streams(self, at_s: float) -> float:
        """Give how many want to speak, before those that come cannot end as fast."""
        return self.peak * (LOW + (1 - LOW) * _shape(self.name, self.seconds)(at_s))

    def rate(self, at_s: float, *, every_s: float = TICK_S) -> float:
        """Give comings a second over the time that ends then."""
        before, now = self.streams(max(0.0, at_s - every_s)), self.streams(at_s)
        return max(0.0, (now - before) / every_s + now / self.stream_s)

    def trace(self, seed: int) -> Trace:
        """Draw comings and lengths."""
        draw = np.random.default_rng(seed)
        times_s = [0.0] * int(draw.poisson(self.streams(0.0)))
        for tick in range(1, math.ceil(self.seconds / TICK_S)):
            count = int(draw.poisson(self.rate(tick * TICK_S) * TICK_S))
            times_s += [tick * TICK_S + float(one) for one in draw.uniform(0, TICK_S, count)]
        lengths_s = draw.exponential(self.stream_s, len(times_s))
        arrivals = tuple(
            Arrival(at_s, max(LEAST_STREAM_S, min(length_s, self.seconds - at_s)), seed * 7 + place)
            for place, (at_s, length_s) in enumerate(
                zip(sorted(times_s), map(float, lengths_s), strict=True)
            )
        )
        return Trace(arrivals, (0.0, self.seconds), self.seconds)


def _shape(name: LoadName, seconds: float) -> Callable[[float], float]:
    def step(at_s: float) -> float:
        return min(1.0, max(0.0, (at_s - STEP_AT_S) / STEP_TAKES_S))

    def diurnal(at_s: float) -> float:
        return (1 - math.cos(2 * math.pi * at_s / seconds)) / 2

    def burst(at_s: float) -> float:
        into_s = (at_s - STEP_AT_S) % BURSTS_EVERY_S
        return float(at_s >= STEP_AT_S and into_s < BURST_FOR_S) * min(1.0, into_s / STEP_TAKES_S)

    return {"step": step, "diurnal": diurnal, "burst": burst}[name]
