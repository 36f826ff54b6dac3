"""Who comes when and for how long: constant, step, burst, Poisson and diurnal loads, by seed."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

TraceName = Literal["constant", "step", "burst", "poisson", "diurnal"]
TRACES: tuple[TraceName, ...] = get_args(TraceName)

STAGGER_S = 1.0
"""Streams of one step begin within so long."""
MEAN_STREAM_S = 60.0
"""Of streams that come and go by themselves; their lengths are exponential."""
LEAST_STREAM_S = 2.0
BURST_EVERY_S = 60.0
BURST_S = 20.0
NIGHT = 0.1
"""Share of the peak that is there at the quietest hour, and beside a step or a burst."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One stream: when it begins, how long it speaks, and what its speech is drawn from."""

    at_s: float
    duration_s: float
    seed: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A load.

    Args:
        arrivals: in order of time.
        peak_s: the stretch in which the load is at its peak, or may be.
        end_s: when the last stream ends; a few stay behind the peak, so that recovery shows.
    """

    arrivals: tuple[Arrival, ...]
    peak_s: tuple[float, float]
    end_s: float


def make_trace(name: TraceName, *, peak: int, load_s: float, tail_s: float, seed: int) -> Trace:
    """Draw a load.

    Args:
        name: its shape.
        peak: streams at once at its highest; of Poisson and diurnal ones the mean there.
        load_s: how long it lasts.
        tail_s: how long a tenth of the peak stays behind it.
        seed: of all that is drawn.
    """
    draw = np.random.default_rng(seed)
    base, end_s = max(1, round(NIGHT * peak)), load_s + tail_s
    spans = [(0.0, end_s, base)]
    more = peak - base
    peak_s = (0.0, load_s)
    if name == "constant":
        spans.append((0.0, load_s, more))
    elif name == "step":
        peak_s = (load_s / 4, 3 * load_s / 4)
        spans.append((*peak_s, more))
    elif name == "burst":
        starts = np.arange(BURST_EVERY_S / 2, max(load_s - BURST_S, 0.0) + 1e-9, BURST_EVERY_S)
        spans += [(float(at), float(at) + BURST_S, more) for at in starts]
        peak_s = (spans[1][0], spans[-1][1]) if len(spans) > 1 else peak_s
    else:
        rate = _diurnal(load_s) if name == "diurnal" else _flat
        comings = _comings(more, load_s, rate, draw)
        found = [*_held(spans, draw), *comings]
        return Trace(_ordered(found, seed), peak_s, end_s)
    return Trace(_ordered(_held(spans, draw), seed), peak_s, end_s)


def _held(
    spans: list[tuple[float, float, int]], draw: np.random.Generator
) -> Iterator[tuple[float, float]]:
    for start_s, end_s, count in spans:
        for place in range(count):
            stagger_s = STAGGER_S * (place + float(draw.random())) / max(1, count)
            yield start_s + stagger_s, end_s - start_s - STAGGER_S


def _comings(
    mean: int, load_s: float, rate: Callable[[float], float], draw: np.random.Generator
) -> Iterator[tuple[float, float]]:
    """Thin a Poisson process: arrivals at `mean / MEAN_STREAM_S` times `rate` in [0, 1].

    Those that would have come before the beginning and are still there begin in its first second.
    """
    for _ in range(int(draw.poisson(mean * rate(0.0)))):
        yield STAGGER_S * float(draw.random()), _length_s(draw, load_s)
    at_s = 0.0
    while mean and (at_s := at_s + float(draw.exponential(MEAN_STREAM_S / mean))) < load_s:
        if draw.random() < rate(at_s):
            yield at_s, _length_s(draw, load_s - at_s)


def _length_s(draw: np.random.Generator, most_s: float) -> float:
    return max(LEAST_STREAM_S, min(most_s, float(draw.exponential(MEAN_STREAM_S))))


def _ordered(
    found: Iterator[tuple[float, float]] | list[tuple[float, float]], seed: int
) -> tuple[Arrival, ...]:
    return tuple(
        Arrival(at_s, max(LEAST_STREAM_S, duration_s), seed * 1_000_003 + index)
        for index, (at_s, duration_s) in enumerate(sorted(found))
    )


def _flat(_at_s: float) -> float:
    return 1.0


def _diurnal(day_s: float) -> Callable[[float], float]:
    return lambda at_s: (1 - math.cos(2 * math.pi * at_s / day_s)) / 2
