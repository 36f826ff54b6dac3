"""When one more stream would be one too many, even at the least depth there is.

Two signs: streams wait longer than the set point although nothing is left to give up; or the next
one would make them, by what steps take at the least depth. The second sees a burst coming, the
first whatever a prediction missed. By the same prediction it says what depth a burst that is let in
will leave.
"""

import math
from collections import deque
from collections.abc import Sequence

from service.scheduling.load_window import RoundSample
from service.scheduling.slack import StepProfile

REACH = 2.0
"""What was learned from some streams holds for so many times as many."""
CONFIRM_S = 1.0
"""Latency above the set point for so long, at the floor, shuts the door."""
REOPENS_AT = 0.8
"""Share of the set point at which it opens again."""
NEW_S = 5.0
"""A stream this young has not shown yet how much it says: it counts as one that never pauses."""
LEAST_AUDIO_S = 3.0
"""Audio in the window from which on something is learned of it."""
FORGETTING = 0.95
"""Share of what was learned that is kept with each tick: some five seconds."""
BURST = 1.5
"""So many times the streams of five seconds ago are a load that nothing measured says anything of."""
MOST_BUSY = 0.9
"""Share of the engine's time that streams of a burst may need at the level that is foreseen."""
MOST_SCALE = 8.0
"""The profile may be wrong by this factor, both ways."""


class Door:
    """Predicts what one more stream would do to the others.

    Args:
        profiles: of all levels, deepest first; empty where none was measured.
        setpoint_s: the latency that streams are promised.
        chunk_s: of a stream's chunks.
        window_s: seconds of the rounds it is shown.
        speech_scale: so many times the profile that steps over many are expected to take, as long as
            nothing was learned of as many.
    """

    def __init__(
        self,
        profiles: Sequence[StepProfile],
        *,
        setpoint_s: float,
        chunk_s: float,
        window_s: float,
        speech_scale: float = 1.0,
    ) -> None:
        self._profiles = tuple(profiles)
        self._setpoint_s = setpoint_s
        self._chunk_s = chunk_s
        self._window_s = window_s
        self._speech_scale = speech_scale
        self._scale = 1.0
        self._duty = 1.0
        self._taken: deque[tuple[float, int]] = deque()
        self._late_since_s = math.inf
        self._late = False
        self._full: dict[int, bool] = {}
        self._answered = 0

    @property
    def scale(self) -> float:
        """Engine time that rounds took, over what the profiles said."""
        return self._scale

    @property
    def late(self) -> bool:
        """Whether streams wait longer than promised although nothing is left to give up."""
        return self._late

    def tick(
        self,
        now_s: float,
        latency_s: float,
        rounds: Sequence[RoundSample],
        *,
        at_floor: bool,
        num_taken: int,
    ) -> None:
        """Learn what the last seconds took.

        Args:
            now_s: the moment.
            latency_s: of chunks of streams.
            rounds: of the window.
            at_floor: whether nothing is left to give up.
            num_taken: streams that have a place.
        """
        self._taken.append((now_s, num_taken))
        while self._taken[0][0] < now_s - NEW_S:
            self._taken.popleft()
        self._learn(rounds)
        self._mind_latency(now_s, latency_s, at_floor=at_floor and num_taken > 0)

    def refuses(self, num_taken: int, num_kept: int = 0) -> bool:
        """Say whether one more stream beside so many would be one too many.

        Args:
            num_taken: streams that have a place.
            num_kept: streams for which room has to be left behind this one.
        """
        limit_s = self._setpoint_s * (REOPENS_AT if self._full.get(num_kept) else 1.0)
        full = bool(num_taken) and self.predicted_s(num_taken + 1 + num_kept) > limit_s
        self._full[num_kept] = full
        return self._late or full

    def predicted_s(self, num_streams: int) -> float:
        """Give the latency that so many streams would see at the floor."""
        if not self._profiles:
            return 0.0
        known = num_streams <= REACH * min(num_streams, self._num_old)
        scale = self._scale if known else max(self._scale, self._speech_scale)
        return self._profiles[-1].latency_s(self._speaking(num_streams), self._chunk_s, scale)

    @property
    def in_burst(self) -> bool:
        """Whether many of the streams that have a place have just come."""
        return bool(self._taken) and self._taken[-1][1] > BURST * self._num_old

    def foreseen(self) -> int:
        """Give the index of the deepest level that carries streams of which many have just come.

        The first where no burst came, or was answered already. Of what steps over speech take, what was
        learned so far counts: too little depth given up will show in latency, too much would cost words
        for nothing.
        """
        if not self.in_burst:
            self._answered = 0
            return 0
        num_now = self._taken[-1][1]
        if num_now <= self._answered:
            return 0
        self._answered = num_now
        return self._deepest(MOST_BUSY)

    def deepest_carried(self, requested: Sequence[float] = (), num_open: int = 0) -> int:
        """Give the index of the deepest level at which the streams there are ask no more than there is.

        By what was learned of steps over speech, fixed parts left out: what is above it is certainly not
        carried; it, and what is below, may not be either.

        Args:
            requested: layers of those open streams whose depth is no level's business.
            num_open: streams that are open; those beyond the ones that have a place are silent, and it is
                not said which.
        """
        return self._deepest(1.0, requested, num_open)

    def _deepest(self, most_busy: float, requested: Sequence[float] = (), num_open: int = 0) -> int:
        """Give the first level that keeps the engine busy for so much of its time, or the last."""
        if not (self._profiles and self._taken):
            return 0
        num_now = self._taken[-1][1]
        speaking = self._speaking(num_now) / max(1, num_now)
        share = num_now / max(1, num_now, num_open)
        others = sum(
            self._utilisation(self._nearest(layers), share * speaking) for layers in requested
        )
        followers = speaking * max(0.0, num_now - share * len(requested))
        carrying = (
            index
            for index, profile in enumerate(self._profiles)
            if others + self._utilisation(profile, followers) <= most_busy
        )
        return next(carrying, len(self._profiles) - 1)

    def _utilisation(self, profile: StepProfile, speaking: float) -> float:
        return profile.utilisation(speaking, self._chunk_s, self._scale)

    def _nearest(self, layers: float) -> StepProfile:
        """Give the profile of the nearest of the levels: an explicit depth may be none of them."""
        return min(self._profiles, key=lambda profile: abs(profile.layers - layers))

    @property
    def _num_old(self) -> int:
        return min((count for _, count in self._taken), default=0)

    def _speaking(self, num_streams: int) -> float:
        """Give how many of so many streams speak at a time: of those who are new, all."""
        num_old = min(num_streams, self._num_old)
        return num_old * self._duty + (num_streams - num_old)

    def _learn(self, rounds: Sequence[RoundSample]) -> None:
        audio_s = sum(one.audio_s for one in rounds)
        expected_s = sum(self._expected_s(one) for one in rounds)
        if audio_s < LEAST_AUDIO_S or not expected_s:
            return
        took_s = sum(one.took_s for one in rounds)
        seen = min(MOST_SCALE, max(1 / MOST_SCALE, took_s / expected_s))
        self._scale += (1 - FORGETTING) * (seen - self._scale)
        if self._num_old:
            duty = min(1.0, audio_s / (self._window_s * self._num_old))
            self._duty += (1 - FORGETTING) * (duty - self._duty)

    def _expected_s(self, one: RoundSample) -> float:
        if not (one.audio_s and self._profiles):
            return 0.0
        profile = self._nearest(one.layers)
        return profile.fixed_s + profile.per_stream_s * one.audio_s / self._chunk_s

    def _mind_latency(self, now_s: float, latency_s: float, *, at_floor: bool) -> None:
        if not at_floor or latency_s <= REOPENS_AT * self._setpoint_s:
            self._late, self._late_since_s = False, math.inf
        elif latency_s > self._setpoint_s:
            self._late_since_s = min(self._late_since_s, now_s)
            self._late = self._late or now_s - self._late_since_s >= CONFIRM_S
