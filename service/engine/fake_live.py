"""The fake engine's streams: utterances whose words come from loudness, and a gate that hears level.

Half a second that is loud is a word, heard at the plan of the chunk that completes it. One that is
under way is half a word, and may still change: what of a caption is stable shows without a model.
"""

import numpy as np

from service.engine.base import (
    GATE_FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    Cost,
    ListenInput,
    LiveInput,
    LiveOutput,
    PlanInUse,
    Samples,
    Word,
)
from service.engine.fake_words import (
    FIXED_FLOPS_PER_S,
    LAYER_FLOPS_PER_S,
    SILENCE_PEAK,
    word_at,
)
from service.errors import PlanInvalid

CHUNK_S = 0.4  # _CHUNK_SAMPLES
EVEN_ODDS_LEVEL = 0.005
"""Root mean square of a frame that is as likely speech as not."""
STATE_BYTES_PER_LAYER_S = 4096

_CHUNK_SAMPLES = SAMPLE_RATE_HZ * 2 // 5
_WORD_SAMPLES = SAMPLE_RATE_HZ // 2
_TENTATIVE_CONFIDENCE = 0.5
_SECOND_PASS_CONFIDENCE = 0.99


class FakeUtterance:
    """Takes samples in whole chunks, like an encoder, and remembers how loud each half second was."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)
        self._encoded = 0
        self._layer_s = 0.0
        self._words: list[Word | None] = []  # one for each half second; None is silence
        self._peak = 0.0
        self._told: tuple[Word, ...] = ()
        self._num_stable = 0
        self._skipped: tuple[bool, ...] | None = None

    @staticmethod
    def of(one: LiveInput) -> "FakeUtterance":
        """Give the state of an input."""
        assert isinstance(one.utterance, FakeUtterance), "an utterance of this engine"
        return one.utterance

    @property
    def state_bytes(self) -> int:
        """Bytes that caches of that many layers and seconds would take up."""
        return round(self._layer_s * STATE_BYTES_PER_LAYER_S)

    def take(self, one: LiveInput, realtime_factor: float) -> LiveOutput:
        """Do this stream's share of a step.

        Raises:
            PlanInvalid: skipped layers changed inside the utterance.
        """
        self._hold(one.plan)
        samples = np.concatenate([self._rest, one.samples])
        num_taken = len(samples) if one.ends else len(samples) - len(samples) % _CHUNK_SAMPLES
        self._rest = samples[num_taken:]
        self._encode(samples[:num_taken], one)
        ran_s = num_taken / SAMPLE_RATE_HZ
        if one.ends:
            self._complete(one)
        if one.decode:
            self._decode(one)
        if one.second_pass:
            self._hear_again()
            ran_s += self._encoded / SAMPLE_RATE_HZ
        cost = _cost(ran_s, one.plan, realtime_factor)
        return LiveOutput(self._told, self._num_stable, self._encoded / SAMPLE_RATE_HZ, cost)

    def _hold(self, plan: PlanInUse) -> None:
        skipped = tuple(stride == 0 for stride in plan.strides)
        if self._skipped not in (None, skipped):
            raise PlanInvalid("expected the layers skipped so far to stay skipped, got others")
        self._skipped = skipped

    def _encode(self, samples: Samples, one: LiveInput) -> None:
        self._layer_s += len(samples) / SAMPLE_RATE_HZ * one.plan.effective_layers
        while len(samples):
            missing = _WORD_SAMPLES - self._encoded % _WORD_SAMPLES
            piece, samples = samples[:missing], samples[missing:]
            self._peak = max(self._peak, float(np.abs(piece).max()))
            self._encoded += len(piece)
            if len(piece) == missing:
                self._complete(one)

    def _complete(self, one: LiveInput) -> None:
        index = len(self._words)
        if index * _WORD_SAMPLES < self._encoded:
            word = word_at(index, one.plan, one.hotwords)
            self._words.append(word if self._peak > SILENCE_PEAK else None)
        self._peak = 0.0

    def _decode(self, one: LiveInput) -> None:
        end_s = self._encoded / SAMPLE_RATE_HZ
        words = [word for word in self._words if word is not None]
        self._num_stable = len(words)
        if not one.ends and self._peak > SILENCE_PEAK:
            whole = word_at(len(self._words), one.plan, one.hotwords)
            half = whole.text[: (len(whole.text) + 1) // 2]
            words.append(Word(half, whole.start_s, end_s, _TENTATIVE_CONFIDENCE))
        self._told = tuple(
            Word(word.text, word.start_s, min(word.end_s, end_s), word.confidence) for word in words
        )

    def _hear_again(self) -> None:
        self._told = tuple(
            Word(word.text, word.start_s, word.end_s, _SECOND_PASS_CONFIDENCE)
            for word in self._told
        )


class FakeListener:
    """Hears level alone."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    @staticmethod
    def of(one: ListenInput) -> "FakeListener":
        """Give the state of an input."""
        assert isinstance(one.listener, FakeListener), "a listener of this engine"
        return one.listener

    def hear(self, samples: Samples) -> Samples:
        """Give the probability of each frame that is complete."""
        samples = np.concatenate([self._rest, samples])
        num_frames = len(samples) // GATE_FRAME_SAMPLES
        self._rest = samples[num_frames * GATE_FRAME_SAMPLES :]
        frames = samples[: num_frames * GATE_FRAME_SAMPLES].reshape(-1, GATE_FRAME_SAMPLES)
        level = np.sqrt(np.square(frames).mean(axis=1))
        return (level / (level + EVEN_ODDS_LEVEL)).astype(np.float32)


def _cost(ran_s: float, plan: PlanInUse, realtime_factor: float) -> Cost:
    encoder_flops = round(ran_s * LAYER_FLOPS_PER_S * plan.effective_layers)
    fixed_flops = round(ran_s * FIXED_FLOPS_PER_S)
    full_flops = round(ran_s * LAYER_FLOPS_PER_S * plan.layers_total) + fixed_flops
    busy_s = ran_s * realtime_factor * plan.effective_layers / plan.layers_total
    return Cost(encoder_flops + fixed_flops, encoder_flops, full_flops, busy_s, 0.0)
