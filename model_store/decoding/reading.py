"""From hypotheses to words: limits, times, confidence, and a second try when a result looks wrong.

Needs no torch: whatever listens to the samples gives hypotheses, and the rest is the same for all.

Dimensions: B = windows, U = tokens, H = alignment heads, P = pooled frames.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from model_store.decoding.alignment import AlignmentHeads, separated, token_spans
from model_store.decoding.confidence import ConfidenceMap
from model_store.decoding.hypothesis import Hypothesis
from model_store.decoding.repetition import without_loops
from model_store.text.tokens import Tokenizer, WordPiece

SAMPLE_RATE_HZ = 16_000
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Limits, and what a result that looks wrong looks like.

    Args:
        tokens_per_second: limit of a transcript's length; speech has 2 to 5.
        max_compression_ratio: text that compresses better than this repeats itself (Whisper's).
        min_avg_logprob: below, the model guesses.
        retry_unended: a transcript that ran into its limit looks wrong too.
        retry_silence_s: added to the audio of the second try, which makes it hear the end.
    """

    tokens_per_second: float = 6.5
    spare_tokens: int = 4
    max_compression_ratio: float = 2.4
    min_avg_logprob: float = -1.0
    retry_unended: bool = True
    retry_silence_s: float = 0.4


@dataclass(frozen=True, slots=True)
class DecodedWord:
    """A word with its times from the window's start and a confidence in [0, 1]."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one window said.

    Args:
        looped: whether the end of the transcript was cut off as a loop.
        ended: whether the decoder said that the text ends, before its limit.
        tries: the samples that each try ran over, and the decoder steps it took.
        encode_s, decode_s: this window's share of its batch's time.
    """

    text: str
    words: tuple[DecodedWord, ...]
    num_tokens: int
    avg_logprob: float
    compression_ratio: float
    looped: bool
    ended: bool
    tries: tuple[tuple[int, int], ...]
    encode_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class WindowTranscript:
    """What one window said, and what it cost.

    Args:
        flops, encoder_flops: estimated operations, of all tries.
        full_flops: what the full plan would have cost for the same words.
    """

    text: str
    words: tuple[DecodedWord, ...]
    tokens: int
    avg_logprob: float
    compression_ratio: float
    flops: int
    encoder_flops: int
    full_flops: int
    encode_s: float
    decode_s: float

    @classmethod
    def of(
        cls, decoded: Decoded, *, flops: int, encoder_flops: int, full_flops: int
    ) -> "WindowTranscript":
        """Put a window's words and their cost together."""
        return cls(
            text=decoded.text,
            words=decoded.words,
            tokens=decoded.num_tokens,
            avg_logprob=decoded.avg_logprob,
            compression_ratio=decoded.compression_ratio,
            flops=flops,
            encoder_flops=encoder_flops,
            full_flops=full_flops,
            encode_s=decoded.encode_s,
            decode_s=decoded.decode_s,
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """What a batch of windows gave.

    Args:
        hypotheses: one for each window.
        encode_s, decode_s: time in the encoder, and from its states to the hypotheses.
    """

    hypotheses: Sequence[Hypothesis]
    encode_s: float
    decode_s: float


Listen = Callable[[Sequence[Samples], Sequence[int], Sequence[int]], Heard]
"""Hears windows, each completed with silence to a number of samples, up to a number of tokens."""


class TranscriptReader:
    """Makes words of what a model hears.

    Args:
        tokenizer: of the model.
        heads: alignment heads; None gives words without times that mean anything.
        memory_frame_s: seconds of audio in one frame that the decoder sees.
        confidence: what raw confidences stand for; None leaves them raw.
        retries: whether a second try, over more silence, can say anything else.
        options: limits.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        heads: AlignmentHeads | None,
        memory_frame_s: float,
        *,
        confidence: ConfidenceMap | None = None,
        retries: bool = True,
        options: DecodingOptions | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._heads = heads
        self._frame_s = memory_frame_s
        self._confidence = confidence
        self._retries = retries
        self._options = options or DecodingOptions()

    def decode(
        self, windows: Sequence[Samples], listen: Listen, *, words: bool = True
    ) -> list[Decoded]:
        """Decode a batch; windows that look wrong get one more try, by themselves.

        Args:
            windows: float32 in [-1, 1], 16 kHz; similar lengths waste least.
            listen: the model.
            words: also give words with times and confidence.
        """
        first = self._attempt(windows, listen, words=words)
        doubtful = [row for row, decoded in enumerate(first) if self.retry_samples(decoded)]
        if doubtful:
            again = [windows[row] for row in doubtful]
            silence = self.retry_samples(first[doubtful[0]])
            second = self._attempt(again, listen, silence, words=words)
            for row, decoded in zip(doubtful, second, strict=True):
                first[row] = self.better(first[row], decoded)
        return first

    def most_tokens(self, num_samples: int) -> int:
        """Give the limit of a transcript of so much audio."""
        options = self._options
        return options.spare_tokens + int(options.tokens_per_second * num_samples / SAMPLE_RATE_HZ)

    def read(
        self, hypothesis: Hypothesis, length: int, audio_s: float, *, words: bool, settled: int = 0
    ) -> Decoded:
        """Make words of a hypothesis over `length` samples, of which the first `audio_s` are heard.

        Args:
            hypothesis: what was decoded.
            length: samples.
            audio_s: seconds.
            words: also give words with times and confidence.
            settled: tokens, from the first, that are kept even where they loop.
        """
        kept = max(settled, self._kept(hypothesis))
        tokens, looped = hypothesis.tokens[:kept], kept < len(hypothesis.tokens)
        text = self._tokenizer.decode(tokens)
        found: tuple[DecodedWord, ...] = ()
        if words and tokens:
            end_s = self._token_ends_s(hypothesis, kept, length / SAMPLE_RATE_HZ, audio_s)
            found = self.words(tokens, hypothesis.logprobs, end_s, audio_s)
        return Decoded(
            text=text,
            words=found,
            num_tokens=kept,
            # A loop is sure of itself, which says nothing about the words before it.
            avg_logprob=sum(hypothesis.logprobs[:kept]) / kept
            if looped
            else hypothesis.avg_logprob,
            compression_ratio=compression_ratio(text),
            looped=looped,
            ended=hypothesis.ended,
            tries=((length, hypothesis.steps),),
            encode_s=0.0,
            decode_s=0.0,
        )

    def words(
        self,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        token_end_s: Sequence[float],
        audio_s: float,
    ) -> tuple[DecodedWord, ...]:
        """Group tokens into words that begin where the one before ends."""
        words = self._tokenizer.decode_words(tokens)
        if not words:
            return ()
        bound_s = separated([0.0, *(token_end_s[word.end_token - 1] for word in words)], audio_s)
        sure = [_confidence(logprobs, word) for word in words]
        if self._confidence is not None:
            sure = self._confidence(sure)
        return tuple(
            DecodedWord(word.text, start_s, end_s, confidence)
            for word, (start_s, end_s), confidence in zip(
                words, pairwise(bound_s), sure, strict=True
            )
        )

    def _attempt(
        self,
        windows: Sequence[Samples],
        listen: Listen,
        silence: int = 0,
        *,
        words: bool,
    ) -> list[Decoded]:
        lengths = [len(samples) + silence for samples in windows]
        heard = listen(windows, lengths, [self.most_tokens(length) for length in lengths])
        decoded = [
            self.read(hypothesis, length, (length - silence) / SAMPLE_RATE_HZ, words=words)
            for hypothesis, length in zip(heard.hypotheses, lengths, strict=True)
        ]
        encode_s, decode_s = heard.encode_s / sum(lengths), heard.decode_s / sum(lengths)
        return [
            dataclasses.replace(item, encode_s=encode_s * length, decode_s=decode_s * length)
            for item, length in zip(decoded, lengths, strict=True)
        ]

    def _kept(self, hypothesis: Hypothesis) -> int:
        num_tokens = len(hypothesis.tokens)
        if hypothesis.weights_HUP is None:
            return num_tokens
        weights_UP = hypothesis.weights_HUP.mean(0)[:num_tokens]
        place_P = np.arange(weights_UP.shape[1])
        position_s = weights_UP @ place_P / weights_UP.sum(1) * self._frame_s
        return without_loops(hypothesis.tokens, position_s.tolist())

    def _token_ends_s(
        self, hypothesis: Hypothesis, num_tokens: int, heard_s: float, audio_s: float
    ) -> list[float]:
        if hypothesis.weights_HUP is None or self._heads is None:
            return [(index + 1) * audio_s / num_tokens for index in range(num_tokens)]
        frame_s, offset_s = self._frame_s, self._heads.end_offset_s
        # Whisper's states go on after the audio, in silence that no token is said in.
        rows = math.ceil(heard_s / frame_s)
        # What comes after the last token (the end token, or a loop) tells where it ends.
        spans = token_spans(hypothesis.weights_HUP[:, : num_tokens + 1, :rows])
        return [end * frame_s - offset_s for _, end in spans[:num_tokens]]

    def retry_samples(self, decoded: Decoded) -> int:
        """Give the silence of a second try at what looks wrong, in samples; 0 where there is none."""
        if not self._retries or not self._looks_wrong(decoded):
            return 0
        return round(self._options.retry_silence_s * SAMPLE_RATE_HZ)

    def _looks_wrong(self, decoded: Decoded) -> bool:
        unsure = decoded.avg_logprob < self._options.min_avg_logprob
        return bool(decoded.num_tokens) and (unsure or self._repeats(decoded))

    def _repeats(self, decoded: Decoded) -> bool:
        runs_on = self._options.retry_unended and not decoded.ended
        return (
            runs_on
            or decoded.looped
            or decoded.compression_ratio > self._options.max_compression_ratio
        )

    def better(self, first: Decoded, second: Decoded) -> Decoded:
        """Give the likelier try, a looping one only when both loop; both are paid for."""
        loops = [self._repeats(decoded) for decoded in (first, second)]
        if loops[0] != loops[1]:
            chosen = second if loops[0] else first
        else:
            chosen = max(first, second, key=lambda decoded: decoded.avg_logprob)
        return dataclasses.replace(
            chosen,
            tries=first.tries + second.tries,
            encode_s=first.encode_s + second.encode_s,
            decode_s=first.decode_s + second.decode_s,
        )


def _confidence(logprobs: Sequence[float], word: WordPiece) -> float:
    of_word = logprobs[word.start_token : word.end_token]
    return min(1.0, math.exp(sum(of_word) / len(of_word)))


def compression_ratio(text: str) -> float:
    """Give bytes over compressed bytes; 0 for no text. Source: Whisper's `transcribe.py` (MIT)."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0
