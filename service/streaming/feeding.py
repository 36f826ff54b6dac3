"""How far an utterance is fed to the encoder, and where one that is too long is cut.

speech  ....|#############|.............|        end: endpointing after the last speech
fed     [------------------hang]                 no further, unless somebody speaks on
chunks  [------][------][------]                 rounded up, so that nothing said is left over
"""

from dataclasses import dataclass

from service.engine.base import SAMPLE_RATE_HZ, LiveInput, LiveUtterance, PlanInUse, Samples
from service.streaming.track import Track, quietest_place
from service.streaming.utterance import Utterance

HANG_SAMPLES = SAMPLE_RATE_HZ // 5
"""0.2 s are encoded after the last frame of speech: soft endings are heard short."""
MARGIN_SAMPLES = SAMPLE_RATE_HZ // 25
"""40 ms, which an encoder may have to see beyond a chunk before the chunk is complete."""
TAIL_SAMPLES = 3 * SAMPLE_RATE_HZ
"""The most that is encoded again after an utterance had to be cut."""
MAX_STEP_SAMPLES = 2 * SAMPLE_RATE_HZ
"""Of one stream in one step, so that nobody's backlog holds the others up."""


@dataclass(frozen=True, slots=True)
class Target:
    """How far to feed; whether that is the utterance's end; whether it is worth a step."""

    position: int
    last: bool
    due: bool


@dataclass(frozen=True, slots=True)
class Work:
    """What the engine was given of an utterance, until it is done with it."""

    state: LiveUtterance
    plan: PlanInUse
    target: Target
    decode: bool
    second_pass: bool

    def input(self, samples: Samples, hotwords: tuple[str, ...]) -> LiveInput:
        """Give a step's input; that of a further step for the same words has no samples."""
        return LiveInput(
            self.state,
            samples,
            self.plan,
            self.decode,
            self.target.last,
            self.second_pass,
            hotwords,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeding:
    """Decides by what the encoder takes at once and at most.

    Args:
        chunk_samples: of one chunk.
        max_samples: of one utterance.
    """

    chunk_samples: int
    max_samples: int

    def target(self, utterance: Utterance, heard: int) -> Target:
        """Say how far to feed an utterance of which the gate has heard so much."""
        fed, voiced = utterance.fed, utterance.voice_end + HANG_SAMPLES
        num_chunks = -(-(voiced - utterance.start) // self.chunk_samples)
        # The same whether the end is known by now or not: what is encoded, and so what it costs,
        # must not depend on how the audio was cut into packets.
        whole = utterance.start + num_chunks * self.chunk_samples + MARGIN_SAMPLES
        limit = max(fed, min(heard if utterance.end is None else utterance.end, whole))
        room = utterance.start + self.max_samples
        position = min(limit, room, fed + MAX_STEP_SAMPLES)
        last = position == room or (utterance.end is not None and position == limit)
        complete = position - utterance.encoded >= self.chunk_samples + MARGIN_SAMPLES
        return Target(position, last, last or (position > fed and complete))


def cut(utterance: Utterance, track: Track, told_end_s: float) -> Utterance:
    """End an utterance that is too long where it is quiet, and give the rest as the next one.

    Not before a word that was told as stable: it would be said twice. Words behind the place are
    taken away; the next utterance hears them again.

    Args:
        utterance: fed as far as it may be.
        track: holds its last three seconds.
        told_end_s: the end of its last stable word that was told.
    """
    low = max(utterance.fed - TAIL_SAMPLES, round(told_end_s * SAMPLE_RATE_HZ), utterance.start + 1)
    low = min(low, utterance.fed)
    place = low + quietest_place(track.between(low, utterance.fed))
    rest = Utterance(
        place,
        place,
        max(utterance.voice_end, place),
        voice_arrived_s=utterance.voice_arrived_s,
        end=utterance.end,
        end_arrived_s=utterance.end_arrived_s,
        reason=utterance.reason,
    )
    utterance.words = tuple(
        word for word in utterance.words if (word.start_s + word.end_s) / 2 * SAMPLE_RATE_HZ < place
    )
    utterance.reason = "limit"
    return rest
