"""Windows of samples to words: greedy, a second try when a result looks wrong, times, confidence.

Dimensions: B = windows, S = samples, U = tokens, H = alignment heads, P = pooled frames.
"""

import dataclasses
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from model_store.backbones import SpeechModule
from model_store.backbones.base import EncoderStates
from model_store.decoding.alignment import AlignmentHeads, separated, token_spans
from model_store.decoding.greedy import Hypothesis, decode_greedy
from model_store.decoding.repetition import without_loops
from model_store.depth import DepthSchedule
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


class WindowDecoder:
    """Turns batches of windows into words at a given depth.

    Args:
        model: any backbone with an attention decoder.
        tokenizer: of the model.
        heads: alignment heads; None gives words without times that mean anything.
        options: limits.
    """

    def __init__(
        self,
        model: SpeechModule,
        tokenizer: Tokenizer,
        heads: AlignmentHeads | None,
        options: DecodingOptions | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._heads = heads
        self._options = options or DecodingOptions()

    def decode(
        self,
        windows: Sequence[Samples],
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
        *,
        words: bool = True,
    ) -> list[Decoded]:
        """Decode a batch; windows that look wrong get one more try, by themselves.

        Args:
            windows: float32 in [-1, 1], 16 kHz; similar lengths waste least.
            schedule: depth along each window.
            chunk_frames: chunk mask, None for full context.
            words: also give words with times and confidence.
        """
        first = self._attempt(windows, schedule, chunk_frames, words=words)
        doubtful = [row for row, decoded in enumerate(first) if self._looks_wrong(decoded)]
        if doubtful and not self._model.pads_input:
            again = [windows[row] for row in doubtful]
            silence_s = self._options.retry_silence_s
            second = self._attempt(again, schedule, chunk_frames, silence_s, words=words)
            for row, decoded in zip(doubtful, second, strict=True):
                first[row] = self._better(first[row], decoded)
        return first

    def _attempt(
        self,
        windows: Sequence[Samples],
        schedule: DepthSchedule,
        chunk_frames: int | None,
        silence_s: float = 0.0,
        *,
        words: bool,
    ) -> list[Decoded]:
        silence = round(silence_s * SAMPLE_RATE_HZ)
        lengths = [len(samples) + silence for samples in windows]
        samples_BS = torch.zeros(len(windows), max(lengths))
        for row, samples in enumerate(windows):
            samples_BS[row, : len(samples)] = torch.from_numpy(samples)
        started = time.perf_counter()
        with torch.inference_mode():
            encoded = self._model.encode(samples_BS, torch.tensor(lengths), schedule, chunk_frames)
        encoded_at = time.perf_counter()
        found = self._greedy(encoded, lengths)
        encode_s = (encoded_at - started) / sum(lengths)
        decode_s = (time.perf_counter() - encoded_at) / sum(lengths)
        decoded = [
            self._decoded(hypothesis, length, (length - silence) / SAMPLE_RATE_HZ, words=words)
            for hypothesis, length in zip(found, lengths, strict=True)
        ]
        return [
            dataclasses.replace(item, encode_s=encode_s * length, decode_s=decode_s * length)
            for item, length in zip(decoded, lengths, strict=True)
        ]

    def _greedy(self, encoded: EncoderStates, lengths: Sequence[int]) -> list[Hypothesis]:
        options = self._options
        limits = [
            options.spare_tokens + int(options.tokens_per_second * length / SAMPLE_RATE_HZ)
            for length in lengths
        ]
        watched: Mapping[int, Sequence[int]] = self._heads.by_layer if self._heads else {}
        end_token = self._model.config.end_token
        return decode_greedy(self._model, encoded, limits, end_token, watched)

    def _decoded(
        self, hypothesis: Hypothesis, length: int, audio_s: float, *, words: bool
    ) -> Decoded:
        """Make words of a hypothesis over `length` samples, of which the first `audio_s` are heard."""
        kept = self._kept(hypothesis)
        tokens, looped = hypothesis.tokens[:kept], kept < len(hypothesis.tokens)
        text = self._tokenizer.decode(tokens)
        found: tuple[DecodedWord, ...] = ()
        if words and tokens:
            end_s = self._token_ends_s(hypothesis, kept, length / SAMPLE_RATE_HZ, audio_s)
            found = self._words(tokens, hypothesis.logprobs, end_s, audio_s)
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

    def _kept(self, hypothesis: Hypothesis) -> int:
        num_tokens = len(hypothesis.tokens)
        if hypothesis.weights_HUP is None:
            return num_tokens
        weights_UP = hypothesis.weights_HUP.mean(0)[:num_tokens]
        place_P = np.arange(weights_UP.shape[1])
        position_s = weights_UP @ place_P / weights_UP.sum(1) * self._model.memory_frame_s
        return without_loops(hypothesis.tokens, position_s.tolist())

    def _token_ends_s(
        self, hypothesis: Hypothesis, num_tokens: int, heard_s: float, audio_s: float
    ) -> list[float]:
        if hypothesis.weights_HUP is None or self._heads is None:
            return [(index + 1) * audio_s / num_tokens for index in range(num_tokens)]
        frame_s, offset_s = self._model.memory_frame_s, self._heads.end_offset_s
        # Whisper's states go on after the audio, in silence that no token is said in.
        rows = math.ceil(heard_s / frame_s)
        # What comes after the last token (the end token, or a loop) tells where it ends.
        spans = token_spans(hypothesis.weights_HUP[:, : num_tokens + 1, :rows])
        return [end * frame_s - offset_s for _, end in spans[:num_tokens]]

    def _words(
        self,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        token_end_s: Sequence[float],
        audio_s: float,
    ) -> tuple[DecodedWord, ...]:
        words = self._tokenizer.decode_words(tokens)
        if not words:
            return ()
        bound_s = separated([0.0, *(token_end_s[word.end_token - 1] for word in words)], audio_s)
        return tuple(
            DecodedWord(word.text, start_s, end_s, _confidence(logprobs, word))
            for word, (start_s, end_s) in zip(words, pairwise(bound_s), strict=True)
        )

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

    def _better(self, first: Decoded, second: Decoded) -> Decoded:
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
