"""A client of a fleet: asks again when refused, goes on elsewhere when asked to.

Its speech is drawn once, for its whole length. A stream that moves ends in a pause of it and begins at
the same moment on another replica, which hears the rest; the second or so that a real client takes to
connect again is left out.
"""

from dataclasses import dataclass, field

import numpy as np

from benchmarks.simulator.clients import Speaker
from benchmarks.simulator.replica import Replica
from benchmarks.simulator.speech import FRAME_S
from benchmarks.simulator.traces import Arrival
from service.engine.base import Samples
from service.scheduling.clock import Clock

PAUSE_S = 0.3
"""So much silence is a pause that a stream may end in."""


@dataclass(slots=True, eq=False)
class FleetClient:
    """One stream of a load, wherever it is.

    Args:
        arrival: when it comes and for how long.
        speech: the gate's probabilities for all of it.
        clock: of the loop.
        replica, speaker: where it is now; None while it is refused, and behind its end.
        moved_at_s: when it last moved.
        leaving: whether it was asked to move and waits for a pause.
    """

    arrival: Arrival
    speech: Samples
    clock: Clock
    replica: Replica | None = None
    speaker: Speaker | None = None
    moved_at_s: float | None = None
    leaving: bool = False
    refused: bool = False
    ask: list["FleetClient"] = field(default_factory=list["FleetClient"])

    @property
    def left_s(self) -> float:
        """Seconds that it still has to say."""
        return self.arrival.at_s + self.arrival.duration_s - self.clock()

    @property
    def rest(self) -> Samples:
        """The speech from now on."""
        return self.speech[max(0, round((self.clock() - self.arrival.at_s) / FRAME_S)) :]

    @property
    def until_pause_s(self) -> float | None:
        """Seconds to the next pause; None where none is left."""
        frames = max(1, round(PAUSE_S / FRAME_S))
        loud = np.convolve(self.rest, np.ones(frames, np.float32), "valid")
        quiet = np.flatnonzero(loud < 0.5)
        return float(quiet[0]) * FRAME_S if len(quiet) else None

    @property
    def can_move(self) -> bool:
        """As in `service.scheduling.moves`."""
        return self.speaker is not None and not self.leaving and self.left_s > 1

    @property
    def since_move_s(self) -> float | None:
        """As in `service.scheduling.moves`."""
        return None if self.moved_at_s is None else self.clock() - self.moved_at_s

    @property
    def cost(self) -> float:
        """All cost the same here."""
        return 1.0

    def ask_to_move(self) -> None:
        """Be asked; whoever runs the fleet lets it move at its next pause."""
        self.leaving = True
        self.ask.append(self)
