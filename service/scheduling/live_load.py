"""What streams give up under load, and in which order: second passes, partials, then depth.

    calm       rounds are short: every chunk is decoded, finals hear their utterance twice
    busy       partials come less often the longer rounds take, and only the utterances that the
               first pass is least sure of are heard twice
    strained   latency is above the set point, or was, or depth is given up: no second passes,
               partials as rarely as they may come

Second passes leave by doubt because that is where the words are: half of the audio, chosen so, holds
82 % of what second passes put right at full depth, a third of it 56 % (docs/experiments.md).

All of the cheaper economies are made as long as depth is given up, so that none comes back before
the depth does.
"""

import math

CALM_ROUND_S = 0.08
"""A round this short leaves room for every second pass ..."""
FULL_ROUND_S = 0.15
"""... and one this long for none; in between, the more doubt the sooner."""
MAX_PARTIAL_INTERVAL_S = 0.9
"""... and partials are not put off so long that they would be further apart than this; where rounds take half
of it, they are in every round."""
FORGETTING = 0.8
"""Share of the old mean that is kept with each new round."""


class LiveLoad:
    """Follows how long rounds of the live scheduler take, the wait for the engine included.

    Args:
        fixed_partial_interval_s: for experiments: partials this far apart whatever the load; 0 lets
            the load say.
    """

    def __init__(self, fixed_partial_interval_s: float = 0.0) -> None:
        self._fixed_partial_interval_s = fixed_partial_interval_s
        self._mean_round_s = 0.0
        self.strained = False
        """Whether depth is given up, or about to be."""
        self.finals_due = False
        """Whether the round under way makes finals; partials step back for them."""

    @property
    def mean_round_s(self) -> float:
        """The mean, recent rounds weighing most."""
        return self._mean_round_s

    @property
    def partial_interval_s(self) -> float:
        """Time from one partial of an utterance to the next; in between it is only encoded."""
        if self._fixed_partial_interval_s:
            return self._fixed_partial_interval_s
        # A partial that is put off waits for a round, and for the one that makes it.
        longest_s = max(0.0, MAX_PARTIAL_INTERVAL_S - 2 * self._mean_round_s)
        if self.strained:
            return longest_s
        if self._mean_round_s <= CALM_ROUND_S:
            return 0.0
        return longest_s if self.finals_due else min(longest_s, 2 * self._mean_round_s)

    @property
    def least_doubt(self) -> float:
        """Doubt about an utterance's words from which on there is room to hear it again.

        At 0 every one is; at infinity none.
        """
        if self.strained or self._mean_round_s >= FULL_ROUND_S:
            return math.inf
        return max(0.0, (self._mean_round_s - CALM_ROUND_S) / (FULL_ROUND_S - CALM_ROUND_S))

    def took(self, round_s: float) -> None:
        """Note a round."""
        self._mean_round_s += (1 - FORGETTING) * (round_s - self._mean_round_s)
