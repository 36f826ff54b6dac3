"""The systems that are compared, and the cells that one run of the comparison has.

They share everything but the policy: weights, engine, one-pass finals, partial interval, places.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["steady", "constant", "load-end"]
Server = Literal["service", "switching"]

LOADS = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Streams over what full depth keeps up with."""
BENDING_LOADS = (1.0, 2.0, 3.0)
NEAR_FLOOR = 0.9
"""Streams over what the floor depth keeps up with."""
LIGHT_STREAMS = 2
"""That speak on when a load has ended."""


@dataclass(frozen=True, slots=True)
class System:
    """One way of meeting load.

    Args:
        drop: what every stream asks for.
        settings: of the server, beside those that all systems share.
        server: which program serves.
        bends: whether second passes and partial intervals give way too, and the service says who is
            one too many; they are fixed otherwise.
    """

    drop: str
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    server: Server = "service"
    bends: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One system under one load.

    Args:
        id: unique in a run.
        system: by its name.
        load: streams over full-depth capacity; the label of a load relative to the floor's.
        streams: how many speak.
        kind: what is measured.
    """

    id: str
    system: str
    load: str
    streams: int
    kind: Kind = "steady"


def systems() -> dict[str, System]:
    """Give the five systems, and the one that bends everything."""
    return {
        "fixed-full": System("0", {"ASR_CONTROLLER": "fixed"}),
        "fixed-half": System("0.5", {"ASR_CONTROLLER": "fixed"}),
        "brownout": System("auto", {"ASR_CONTROLLER": "brownout"}),
        "slack": System("auto", {"ASR_CONTROLLER": "slack"}),
        "switching": System("0", {"ASR_CONTROLLER": "fixed"}, server="switching"),
        "bending": System("auto", {"ASR_CONTROLLER": "brownout"}, bends=True),
    }


def plan_cells(full_capacity: int, floor_capacity: int, wanted: Sequence[str]) -> list[Cell]:
    """List the cells of a run, those that say most first, so that a run cut short says something.

    Args:
        full_capacity: streams that full depth keeps up with.
        floor_capacity: C, streams that the floor depth keeps up with.
        wanted: names of systems, kinds or whole cells; empty for all.
    """
    cells = list(_all_cells(full_capacity, floor_capacity))
    return [
        cell
        for cell in cells
        if not wanted or {cell.id, cell.system, cell.load, cell.kind}.intersection(wanted)
    ]


def _all_cells(full_capacity: int, floor_capacity: int) -> Iterator[Cell]:
    near_floor = max(1, round(NEAR_FLOOR * floor_capacity))
    compared = [name for name, system in systems().items() if not system.bends]
    for name in compared:
        yield Cell(f"{name}-0.9C", name, "0.9C", near_floor)
    yield Cell("load-end", "brownout", "0.9C", near_floor, "load-end")
    yield Cell("constant", "brownout", "0.9C", near_floor, "constant")
    for load in sorted(LOADS, reverse=True):
        for name in compared:
            yield Cell(f"{name}-{load:g}x", name, f"{load:g}x", _streams(load, full_capacity))
    for load in BENDING_LOADS:
        yield Cell(f"bending-{load:g}x", "bending", f"{load:g}x", _streams(load, full_capacity))


def _streams(load: float, full_capacity: int) -> int:
    return max(1, round(load * full_capacity))
