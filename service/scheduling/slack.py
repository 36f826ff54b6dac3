"""The slack law: the deepest level whose predicted latency leaves room, from a profiled table.

It looks ahead where the brownout law looks back: the table says how long a step over so many
streams takes at each depth, and from that follows what latency a number of streams will see.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.scheduling.controller import Reading

SLACK = 0.2
"""Share of the set point that the prediction has to leave."""
DEEPER_SLACK = 0.4
"""Share that it has to leave before a deeper level is taken: hysteresis."""
ROUNDS_WAITED = 2.0
"""Audio that comes in just after a round began waits for it, and then for its own."""
FORGETTING = 0.9
"""Share of the old scale that is kept with each reading."""
LEARNS_FROM = 0.6
"""Busy ratio of the engine from which on what it took says whether the table is right."""
MOST_SCALE = 8.0
"""The table may be wrong by this factor, both ways; beyond, it is of no use."""
_TOLERANCE_LAYERS = 1e-9


@dataclass(frozen=True, slots=True)
class StepProfile:
    """How long steps take at a depth: `fixed_s + num_streams * per_stream_s` for a chunk of each.

    Args:
        layers: effective layers.
        fixed_s: of a step, whatever is in it.
        per_stream_s: for each stream's chunk.
    """

    layers: float
    fixed_s: float
    per_stream_s: float

    def utilisation(self, num_streams: float, chunk_s: float, scale: float = 1.0) -> float:
        """Predict the share of the engine's time that the streams need, fixed parts left out."""
        return scale * num_streams * self.per_stream_s / chunk_s

    def latency_s(self, num_streams: float, chunk_s: float, scale: float = 1.0) -> float:
        """Predict the latency of a chunk; infinite where the streams ask more than there is.

        Each round takes the chunks that came in during the last one, `num_streams * round / chunk`
        of them, so that `round = fixed + per_stream * num_streams * round / chunk`.
        """
        utilisation = self.utilisation(num_streams, chunk_s, scale)
        if utilisation >= 1:
            return math.inf
        one_s = scale * (self.fixed_s + self.per_stream_s)
        return ROUNDS_WAITED * max(one_s, scale * self.fixed_s / (1 - utilisation))


class Slack:
    """Picks from a table; what it predicts too low or too high by a factor, it corrects.

    Args:
        table: a profile for each level, deepest first.
        layers_total: of the model.
        setpoint_s: the latency to stay under.
        chunk_s: of a stream's chunks.
    """

    def __init__(
        self, table: Sequence[StepProfile], *, layers_total: int, setpoint_s: float, chunk_s: float
    ) -> None:
        self._table = tuple(table)
        self._layers_total = layers_total
        self._setpoint_s = setpoint_s
        self._chunk_s = chunk_s
        self.reset()

    def reset(self) -> None:
        """Trust the table as it is; the dimmer is 1."""
        self._index = 0
        self._scale = 1.0

    def follow(self, dimmer: float) -> None:
        """Go on from the deepest level within a dimmer; what was corrected stays."""
        within = (
            index
            for index, profile in enumerate(self._table)
            if profile.layers <= dimmer * self._layers_total + _TOLERANCE_LAYERS
        )
        self._index = next(within, len(self._table) - 1)

    def next_dimmer(self, reading: Reading, ceiling: float = 1.0) -> float:
        """Give the dimmer of the deepest level under the ceiling that leaves room."""
        self._correct(reading)
        while self._index < len(self._table) - 1 and not self._leaves(SLACK, self._index, reading):
            self._index += 1
        while self._index and self._leaves(DEEPER_SLACK, self._index - 1, reading):
            self._index -= 1
        while self._index < len(self._table) - 1 and self._dimmer > ceiling:
            self._index += 1
        return self._dimmer

    @property
    def _dimmer(self) -> float:
        return self._table[self._index].layers / self._layers_total

    def _leaves(self, slack: float, index: int, reading: Reading) -> bool:
        predicted_s = self._table[index].latency_s(reading.num_streams, self._chunk_s, self._scale)
        return predicted_s <= (1 - slack) * self._setpoint_s

    def _correct(self, reading: Reading) -> None:
        if reading.idle:
            self._scale = 1.0
        if not (reading.num_streams and reading.samples and reading.busy_ratio >= LEARNS_FROM):
            return
        at = self._table[self._index]
        chunks_per_s = reading.num_streams / self._chunk_s
        # All chunks of a round share its fixed part, or each comes alone: both are as the table says.
        least = chunks_per_s * at.per_stream_s
        most = max(least, min(1.0, chunks_per_s * (at.fixed_s + at.per_stream_s)))
        # A saturated engine is busy all the time, whatever is asked of it: latency tells how much.
        worked = reading.busy_ratio * max(1.0, reading.latency_s / self._setpoint_s)
        expected = min(most, max(least, worked))
        seen = min(MOST_SCALE, max(1 / MOST_SCALE, worked / expected)) if expected else 1.0
        self._scale += (1 - FORGETTING) * (seen - self._scale)
