"""The brownout law: an integrator whose gain is learned, quick to give up and slow to take back.

Source: Klein, Maggio, Arzen, Hernandez-Rodriguez, "Brownout: Building More Robust Cloud
Applications", ICSE 2014, equations 3 to 6; slow recovery and the dead band are ours.
"""

from service.scheduling.controller import Reading

RECOVERY = 0.1
"""Share of a positive error that counts: latency hurts at once, words lost to depth add up."""
DEAD_BAND = 0.2
"""Share of the set point below it in which nothing is taken back: a rise would not last."""
FORGETTING = 0.9
"""Share of what was learned of the gain that is kept with each reading."""
LEAST_GAIN, MOST_GAIN = 0.1, 4.0
"""Bounds of alpha, times the set point: an idle plant shows none, a backlog shows more than is there."""


class Brownout:
    """`dimmer += (1 - pole) * (setpoint - latency) / alpha`, alpha = latency over dimmer, learned.

    With the right alpha the error shrinks by `pole` with each reading, and the loop is stable as
    long as the true gain is less than 2 / (1 - pole) of it. When falling, alpha is at least what
    this very reading says, so that a reading takes at most a share 1 - pole of the dimmer.

    Args:
        setpoint_s: the latency to steer to.
        floor: least dimmer, in (0, 1].
        pole: in [0, 1); nearer to 1 is slower and calmer.
    """

    def __init__(self, *, setpoint_s: float, floor: float, pole: float = 0.9) -> None:
        self._setpoint_s = setpoint_s
        self._floor = floor
        self._pole = pole
        self.reset()

    @property
    def alpha_s(self) -> float:
        """Seconds of latency that a dimmer of 1 is thought to give."""
        gain = self._moment_s / self._weight / self._setpoint_s
        return self._setpoint_s * min(MOST_GAIN, max(LEAST_GAIN, gain))

    def follow(self, dimmer: float) -> None:
        """Go on from another dimmer; the gain stays."""
        self._dimmer = max(self._floor, dimmer)

    def reset(self) -> None:
        """Forget the gain; the dimmer is 1."""
        self._dimmer = 1.0
        self._moment_s, self._weight = self._setpoint_s, 1.0

    def next_dimmer(self, reading: Reading, ceiling: float = 1.0) -> float:
        """Give the dimmer after a reading."""
        dimmer, latency_s = self._dimmer, reading.latency_s
        if reading.idle:  # shows no gain; what the load showed would make the way back long
            self._moment_s, self._weight = 0.0, 1.0
        # Least squares of latency on dimmer, exponentially forgotten.
        self._moment_s = FORGETTING * self._moment_s + (1 - FORGETTING) * dimmer * latency_s
        self._weight = FORGETTING * self._weight + (1 - FORGETTING) * dimmer**2
        error_s = self._setpoint_s - latency_s
        if error_s < 0:
            change = (1 - self._pole) * error_s / max(self.alpha_s, latency_s / dimmer)
        elif error_s <= DEAD_BAND * self._setpoint_s:
            change = 0.0
        else:
            change = (1 - self._pole) * RECOVERY * error_s / self.alpha_s
        self._dimmer = max(self._floor, min(ceiling, dimmer + change))
        return self._dimmer
