r"""Where speech begins and ends in a stream, from the gate's probabilities, frame by frame.

probability  ..  __/^^^^^^\_/^^^^\___________________
onset              |<- 3 frames at ONSET               start = first frame - 0.3 s
offset                          |<- endpointing ->|    end of the utterance
"""

from dataclasses import dataclass, replace
from enum import Enum

from service.engine.base import GATE_FRAME_SAMPLES, SAMPLE_RATE_HZ, Samples

ONSET = 0.5
"""Speech begins with frames this probable ..."""
HOLD = 0.35
"""... and goes on over frames above this one; both as the gate of files has them."""
MIN_ONSET_FRAMES = 3
"""96 ms: the shortest words are longer, most knocks are not."""
MAX_DIP_FRAMES = 3
"""A dip inside a word, before it counts as speech: a stop consonant is shorter than 128 ms."""
HURRIED_SILENCE_S = 0.12
"""A pause between words, which ends an utterance that will soon have to be cut anyway."""
LEAD_SAMPLES = SAMPLE_RATE_HZ * 3 // 10
"""0.3 s are taken along before the first frame of speech: soft beginnings are heard late."""


@dataclass(frozen=True, slots=True)
class Onset:
    """Speech has begun; its utterance starts at `start`, `voice_start` is the first frame of it."""

    start: int
    voice_start: int


@dataclass(frozen=True, slots=True)
class Offset:
    """Speech ended at `voice_end`, and the silence lasts up to `end`.

    Args:
        hurried: the silence was short, and taken because the utterance is long.
    """

    voice_end: int
    end: int
    hurried: bool = False


class _Phase(Enum):
    SILENCE = "silence"
    SPEECH = "speech"


class Segmenter:
    """Follows one stream; positions are samples from its beginning.

    Args:
        endpointing_s: silence that ends an utterance; may be changed at any time.
        long_samples: the length beyond which a pause is enough to end it.
    """

    def __init__(self, endpointing_s: float, long_samples: int) -> None:
        self.endpointing_s = endpointing_s
        self._long_samples = long_samples
        self._start = 0
        self._phase = _Phase.SILENCE
        self._num_frames = 0
        self._floor = 0  # no utterance reaches back before this
        self._run_start: int | None = None  # frame
        self._num_strong = 0
        self._last_voiced = 0  # frame

    @property
    def heard(self) -> int:
        """How far the gate has heard."""
        return self._num_frames * GATE_FRAME_SAMPLES

    @property
    def speaking(self) -> bool:
        """Whether an utterance is open."""
        return self._phase is _Phase.SPEECH

    @property
    def voice_end(self) -> int:
        """The end of the last frame that held speech, while an utterance is open."""
        return (self._last_voiced + 1) * GATE_FRAME_SAMPLES

    @property
    def silent_until(self) -> int:
        """How far it is certain that no utterance is open: a possible onset is left out."""
        frame = self._num_frames if self._run_start is None else self._run_start
        return max(self._floor, frame * GATE_FRAME_SAMPLES)

    def free_until(self, lead_samples: int) -> int:
        """How far no utterance reaches that is open or may begin now, its lead included."""
        return max(self._floor, self.silent_until - lead_samples)

    def push(self, probabilities: Samples) -> list[Onset | Offset]:
        """Take the next frames and say what began and ended in them, in order."""
        events = (self._push_frame(float(probability)) for probability in probabilities)
        return [event for event in events if event is not None]

    def restart(self, start: int) -> None:
        """Have the utterance that is open count as one that began at a place."""
        self._start = start

    def close(self, at: int) -> Offset | None:
        """End the utterance that is open, if one is, at a place; the next one starts behind it."""
        was_speaking, voice_end = self.speaking, min(self.voice_end, at)
        self._phase = _Phase.SILENCE
        self._run_start = None
        self._floor = at
        return Offset(voice_end, at) if was_speaking else None

    def _push_frame(self, probability: float) -> Onset | Offset | None:
        frame = self._num_frames
        self._num_frames += 1
        if self._phase is _Phase.SILENCE:
            return self._listen_for_onset(frame, probability)
        if probability >= HOLD:
            self._last_voiced = frame
            return None
        silence_s = (frame - self._last_voiced) * GATE_FRAME_SAMPLES / SAMPLE_RATE_HZ
        if silence_s >= self.endpointing_s:
            return self.close(self.heard)
        is_long = self.heard - self._start >= self._long_samples
        if is_long and silence_s >= HURRIED_SILENCE_S:
            offset = self.close(self.heard)
            return offset and replace(offset, hurried=True)
        return None

    def _listen_for_onset(self, frame: int, probability: float) -> Onset | None:
        if probability < HOLD:
            if self._run_start is not None and frame - self._last_voiced > MAX_DIP_FRAMES:
                self._run_start = None
            return None
        if self._run_start is None:
            self._run_start, self._num_strong = frame, 0
        self._last_voiced = frame
        self._num_strong += probability >= ONSET
        if self._num_strong < MIN_ONSET_FRAMES:
            return None
        voice_start = max(self._floor, self._run_start * GATE_FRAME_SAMPLES)
        self._run_start = None
        self._phase = _Phase.SPEECH
        self._start = max(self._floor, voice_start - LEAD_SAMPLES)
        return Onset(self._start, voice_start)
