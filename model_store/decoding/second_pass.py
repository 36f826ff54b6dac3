"""Utterances that have ended, heard again: the whole at once, with full context.

    samples of all --encoder--> a decoder of its own --words, over several steps--> done
                                 '- first what was written live, as a guess
                                 '- once more, with silence behind it, where the words look wrong

The decoder's calls are those that other streams make in the same steps: a transcript by itself
would read all its weights for one row, token after token, while everybody waits.
"""

import time
from collections.abc import Sequence
from typing import Generic, Protocol

from model_store.decoding.live_step import LiveCost, Spent
from model_store.decoding.live_utterance import (
    Decoder,
    Encoder,
    LiveUtterance,
    Samples,
    WholeHearing,
)
from model_store.decoding.reading import SAMPLE_RATE_HZ, Decoded, TranscriptReader
from model_store.depth import DepthPlan

WINDOWS = 4
"""Whole utterances that are encoded together."""


class HearsWhole(Protocol[Decoder]):
    """Encodes whole utterances with full context."""

    def hear_whole(self, windows: Sequence[Samples], plan: DepthPlan) -> list[Decoder]:
        """Give a decoder of each, which has heard it and written nothing."""
        ...


class TriesFormula(Protocol):
    """Estimated operations of a transcript that is written at once."""

    def tries(self, plan: DepthPlan, tries: Sequence[tuple[int, int]]) -> Spent:
        """Count tries: the samples each ran over, and the rows it took."""
        ...


class SecondPass(Generic[Encoder, Decoder]):
    """Begins and ends the tries at utterances that are heard again.

    Args:
        machine: encodes them.
        reader: makes words of them.
        formula: what they cost.
    """

    def __init__(
        self, machine: HearsWhole[Decoder], reader: TranscriptReader, formula: TriesFormula
    ) -> None:
        self._machine = machine
        self._reader = reader
        self._formula = formula

    def begin(
        self, ending: Sequence[tuple[LiveUtterance[Encoder, Decoder], DepthPlan, LiveCost]]
    ) -> None:
        """Hear utterances, those of one plan together, with what was written of them as a guess."""
        alike: dict[DepthPlan, list[tuple[LiveUtterance[Encoder, Decoder], LiveCost]]] = {}
        for utterance, plan, cost in ending:
            alike.setdefault(plan, []).append((utterance, cost))
        for plan, members in alike.items():
            for start in range(0, len(members), WINDOWS):
                batch = members[start : start + WINDOWS]
                self._hear([one for one, _ in batch], [cost for _, cost in batch], plan)
                for utterance, _ in batch:
                    live, hearing = utterance.decoder.transcript, utterance.whole
                    assert hearing is not None, "expected an utterance that was heard"
                    expected = live.committed + live.tentative
                    hearing.decoder.transcript.expect(expected.tokens)

    def end(self, utterance: LiveUtterance[Encoder, Decoder], cost: LiveCost) -> Decoded | None:
        """Read a try whose words are written; None where another one follows.

        Args:
            utterance: has a hearing that writes no more.
            cost: of its step.
        """
        hearing = utterance.whole
        assert hearing is not None, "expected an utterance that was heard"
        hypothesis = hearing.decoder.transcript.hypothesis()
        hypothesis.steps = sum(call.new_tokens for call in hearing.decoder.calls)
        audio_s = utterance.num_samples / SAMPLE_RATE_HZ
        decoded = self._reader.read(hypothesis, hearing.num_samples, audio_s, words=True)
        spent = self._formula.tries(hearing.plan, decoded.tries)
        cost.flops += spent.total
        cost.encoder_flops += spent.encoder
        cost.full_flops += spent.full
        if hearing.first is not None:
            return self._reader.better(hearing.first, decoded)
        silence = self._reader.retry_samples(decoded)
        if not silence:
            return decoded
        self._hear([utterance], [cost], hearing.plan, silence, decoded)
        return None

    def _hear(
        self,
        utterances: Sequence[LiveUtterance[Encoder, Decoder]],
        costs: Sequence[LiveCost],
        plan: DepthPlan,
        silence: int = 0,
        first: Decoded | None = None,
    ) -> None:
        started = time.perf_counter()
        windows = [utterance.all_samples(silence) for utterance in utterances]
        decoders = self._machine.hear_whole(windows, plan)
        took_s, total = time.perf_counter() - started, sum(map(len, windows))
        each = zip(utterances, windows, decoders, costs, strict=True)
        for utterance, samples, decoder, cost in each:
            utterance.whole = WholeHearing(decoder, plan, len(samples), first)
            cost.encode_s += took_s * len(samples) / total
