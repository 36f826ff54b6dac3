"""One utterance on its way through the encoder: how far it is, what it cost, what of it stands."""

from dataclasses import dataclass, field

from service.engine.base import SAMPLE_RATE_HZ, Cost, LiveOutput, LiveUtterance, PlanInUse, Word
from service.streaming.events import FinalReason


def shifted(word: Word, start_s: float) -> Word:
    """Give a word with the times of the stream."""
    return Word(word.text, start_s + word.start_s, start_s + word.end_s, word.confidence)


def text_of(words: tuple[Word, ...]) -> str:
    """Write words down, one space between them."""
    return " ".join(word.text for word in words)


@dataclass(slots=True)
class Utterance:
    """Positions are samples from the beginning of the stream.

    Args:
        start: where position 0 of the encoder lies.
        voice_start: the first frame of speech.
        voice_end: the end of the last frame of speech so far.
        voice_arrived_s: when that first frame came in.
        end: once it is known; the silence that closed it included.
        end_arrived_s: when that end came in.
        reason: why it ended, once it has.
    """

    start: int
    voice_start: int
    voice_end: int
    voice_arrived_s: float = 0.0
    end: int | None = None
    end_arrived_s: float = 0.0
    reason: FinalReason = "endpoint"
    number: int = -1  # from 0 in order of time, once it is begun
    state: LiveUtterance | None = None
    fed: int = 0
    encoded: int = 0
    words: tuple[Word, ...] = ()
    num_stable: int = 0
    cost: Cost = field(default_factory=Cost)
    plans: list[tuple[float, PlanInUse]] = field(default_factory=list[tuple[float, PlanInUse]])
    layer_samples: float = 0.0
    decoded_at_s: float = float("-inf")
    undecoded: bool = False
    told: bool = False

    def __post_init__(self) -> None:
        self.fed = self.encoded = self.start

    @property
    def start_s(self) -> float:
        """The start in seconds."""
        return self.start / SAMPLE_RATE_HZ

    @property
    def stable_words(self) -> tuple[Word, ...]:
        """The words that no later output changes."""
        return self.words[: self.num_stable]

    @property
    def doubt(self) -> float:
        """How unsure the words are: 1 less their mean confidence; 1 where there are none."""
        sure = sum(word.confidence for word in self.words)
        return max(0.0, 1 - sure / max(1, len(self.words)))

    @property
    def mean_layers(self) -> float:
        """Mean of the effective layers over the frames; before the first, those of the plan."""
        taken = self.encoded - self.start
        if taken:
            return self.layer_samples / taken
        return self.plans[-1][1].effective_layers if self.plans else 0.0

    def book(self, plan: PlanInUse, output: LiveOutput) -> int:
        """Take what a step made of this utterance and give the samples it has encoded anew.

        Those of a step whose words are still to come count once the words are there.
        """
        plan = output.plan or plan
        if not self.plans or self.plans[-1][1] != plan:
            self.plans.append((self.encoded / SAMPLE_RATE_HZ, plan))
        encoded = self.start + round(output.encoded_s * SAMPLE_RATE_HZ)
        advance = max(0, min(encoded, self.fed) - self.encoded) if output.done else 0
        self.encoded += advance
        self.layer_samples += advance * plan.effective_layers
        self.cost += output.cost
        return advance

    def hear(self, output: LiveOutput, *, afresh: bool) -> None:
        """Take the words; those that were stable stay as they were, unless all was heard afresh."""
        kept = () if afresh else self.stable_words
        told = (shifted(word, self.start_s) for word in output.words[len(kept) :])
        self.words = (*kept, *told)
        self.num_stable = min(max(len(kept), output.stable_words), len(self.words))
