"""From what a stream knows to what it tells: captions and totals."""

from dataclasses import dataclass

from service.engine.base import SAMPLE_RATE_HZ, Cost, PlanInUse
from service.streaming.events import Final, Partial, Stats
from service.streaming.utterance import Utterance, text_of

STATS_EVERY_SAMPLES = SAMPLE_RATE_HZ
"""Of stream time between two messages with totals."""


def partial_of(utterance: Utterance, end_s: float, lag_s: float) -> Partial:
    """Write down what the utterance's words are so far."""
    return Partial(
        utt=utterance.number,
        start_s=utterance.start_s,
        end_s=end_s,
        text=text_of(utterance.words),
        stable_chars=len(text_of(utterance.stable_words)),
        layers=utterance.plans[-1][1].effective_layers,
        lag_s=lag_s,
    )


def final_of(utterance: Utterance, end: int, lag_s: float) -> Final:
    """Write down what stands of an utterance that ends at a position."""
    layers, cost = utterance.mean_layers, utterance.cost
    encoded_s = (utterance.encoded - utterance.start) / SAMPLE_RATE_HZ
    busy_s = cost.encode_s + cost.decode_s
    return Final(
        utt=utterance.number,
        start_s=utterance.start_s,
        end_s=end / SAMPLE_RATE_HZ,
        text=text_of(utterance.words),
        words=utterance.words,
        layers=layers,
        plans=tuple(utterance.plans),
        drop=1 - layers / utterance.plans[-1][1].layers_total,
        flops=cost.flops,
        rtf=busy_s / encoded_s if encoded_s else 0.0,
        lag_s=lag_s,
        reason=utterance.reason,
    )


@dataclass(slots=True)
class Totals:
    """Sums over a stream."""

    utterances: int = 0
    dropped_s: float = 0.0
    _encoded: int = 0
    _layer_samples: float = 0.0
    _cost: Cost = Cost()  # noqa: RUF009 frozen
    _told_at: int = 0

    def book(self, plan: PlanInUse, cost: Cost, encoded: int) -> None:
        """Add a step."""
        self._encoded += encoded
        self._layer_samples += encoded * plan.effective_layers
        self._cost += cost

    def flops_per_s(self, audio: int) -> float:
        """Give the operations for each second after so many samples of audio."""
        return self._cost.flops * SAMPLE_RATE_HZ / audio if audio else 0.0

    def due(self, audio: int, state_bytes: int) -> Stats | None:
        """Give the totals, if they have not been told for long enough."""
        if audio - self._told_at < STATS_EVERY_SAMPLES:
            return None
        self._told_at = audio
        return self.stats(audio, state_bytes)

    def stats(self, audio: int, state_bytes: int) -> Stats:
        """Give the totals after so many samples of audio."""
        encoded_s, busy_s = (
            self._encoded / SAMPLE_RATE_HZ,
            self._cost.encode_s + self._cost.decode_s,
        )
        return Stats(
            audio_s=audio / SAMPLE_RATE_HZ,
            encoded_s=encoded_s,
            dropped_s=self.dropped_s,
            utterances=self.utterances,
            layers=self._layer_samples / self._encoded if self._encoded else 0.0,
            flops=self._cost.flops,
            full_flops=self._cost.full_flops,
            rtf=busy_s * SAMPLE_RATE_HZ / audio if audio else 0.0,
            state_bytes=state_bytes,
        )
