"""What a simulated speaker says: when there is speech, as the gate would hear it."""

from dataclasses import dataclass

import numpy as np

from service.engine.base import GATE_FRAME_SAMPLES, SAMPLE_RATE_HZ, ListenInput, Samples

SPEECH_SHAPE = 4.0
"""Of the gamma distribution that lengths are drawn from."""
SHORTEST_SPEECH_S, LONGEST_SPEECH_S = 0.8, 20.0
SHORTEST_PAUSE_S = 0.7
"""It ends an utterance; pauses are exponential above it."""
FRAME_S = GATE_FRAME_SAMPLES / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Manner:
    """How people speak.

    Args:
        speech_s: mean of a stretch of speech; the default is the mean length of the utterances that
            the card's word errors are of.
        pause_s: mean of a pause, above the shortest.
    """

    speech_s: float = 3.8
    pause_s: float = 1.5


def drawn_speech(duration_s: float, seed: int, manner: Manner) -> Samples:
    """Draw the gate's probability, 0 or 1, for each of its frames."""
    draw = np.random.default_rng(seed)
    frames = np.zeros(round(duration_s / FRAME_S) + 1, np.float32)
    at_s = float(draw.uniform(-manner.speech_s, manner.pause_s))
    while at_s < duration_s:
        drawn_s = float(draw.gamma(SPEECH_SHAPE, manner.speech_s / SPEECH_SHAPE))
        speech_s = min(LONGEST_SPEECH_S, max(SHORTEST_SPEECH_S, drawn_s))
        frames[max(0, round(at_s / FRAME_S)) : max(0, round((at_s + speech_s) / FRAME_S))] = 1
        at_s += speech_s + SHORTEST_PAUSE_S
        at_s += float(draw.exponential(max(0.0, manner.pause_s - SHORTEST_PAUSE_S)))
    return frames


@dataclass(slots=True, eq=False)
class ScriptedListener:
    """Hears what was drawn, whatever the samples are; behind its end there is silence."""

    frames: Samples
    num_samples: int = 0

    @staticmethod
    def of(one: ListenInput) -> "ScriptedListener":
        """Give the state of an input."""
        assert isinstance(one.listener, ScriptedListener), "a listener of this engine"
        return one.listener

    def hear(self, num_samples: int) -> Samples:
        """Give the probability of each frame that is complete."""
        first = self.num_samples // GATE_FRAME_SAMPLES
        self.num_samples += num_samples
        end = self.num_samples // GATE_FRAME_SAMPLES
        found = self.frames[first:end]
        missing = end - first - len(found)
        return np.pad(found, (0, missing)) if missing else found
