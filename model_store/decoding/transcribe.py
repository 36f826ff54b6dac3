"""Windows of samples to words: greedy, a second try when a result looks wrong, times, confidence.

Dimensions: B = windows, S = samples, U = tokens, H = alignment heads, P = pooled frames.
"""

import dataclasses
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model_store.backbones import SpeechModule
from model_store.backbones.base import EncoderStates
from model_store.decoding.alignment import AlignmentHeads, token_spans
from model_store.decoding.greedy import Hypothesis, decode_greedy
from model_store.decoding.repetition import without_loops
from model_store.depth import DepthSchedule
from model_store.text.tokens import Tokenizer

SAMPLE_RATE_HZ = 16_000
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Limits, and what a result that looks wrong looks like.

    Args:
        tokens_per_second: limit of a transcript's length; speech has 2 to 5.
        max_compression_ratio: text that compresses better than this repeats itself (Whisper's).
        min_avg_logprob: below, the model guesses.
        retry_silence_s: added to the audio of the second try, which makes it hear the end.
    """

    tokens_per_second: float = 6.5
    spare_tokens: int = 4
    max_compression_ratio: float = 2.4
    min_avg_logprob: float = -1.0
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
        steps: decoder steps of each try, by the samples it ran over.
        encode_s, decode_s: this window's share of its batch's time.
    """

    text: str
    words: tuple[DecodedWord, ...]
    num_tokens: int
    avg_logprob: float
    compression_ratio: float
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
        if doubtful:
            silence = np.zeros(round(self._options.retry_silence_s * SAMPLE_RATE_HZ), np.float32)
            again = [np.concatenate([windows[row], silence]) for row in doubtful]
            second = self._attempt(again, schedule, chunk_frames, words=words)
            for row, decoded in zip(doubtful, second, strict=True):
                first[row] = self._better(first[row], decoded)
        return first

    def _attempt(
        self,
        windows: Sequence[Samples],
        schedule: DepthSchedule,
        chunk_frames: int | None,
        *,
        words: bool,
    ) -> list[Decoded]:
        lengths = [len(samples) for samples in windows]
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
        return [
            self._decoded(hypothesis, length, (encode_s * length, decode_s * length), words=words)
            for hypothesis, length in zip(found, lengths, strict=True)
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
        self, hypothesis: Hypothesis, length: int, seconds: tuple[float, float], *, words: bool
    ) -> Decoded:
        tokens, duration_s = hypothesis.tokens, length / SAMPLE_RATE_HZ
        timed = hypothesis.weights_HUP is not None
        if timed and tokens:
            tokens = tokens[: without_loops(tokens, self._positions_s(hypothesis))]
        text = self._tokenizer.decode(tokens)
        found: tuple[DecodedWord, ...] = ()
        if words and tokens:
            spans_s = self._spans_s(hypothesis, len(tokens), duration_s)
            found = self._words(tokens, hypothesis.logprobs, spans_s)
        return Decoded(
            text=text,
            words=found,
            num_tokens=len(tokens),
            avg_logprob=hypothesis.avg_logprob,
            compression_ratio=compression_ratio(text),
            tries=((length, hypothesis.steps),),
            encode_s=seconds[0],
            decode_s=seconds[1],
        )

    def _positions_s(self, hypothesis: Hypothesis) -> list[float]:
        assert hypothesis.weights_HUP is not None
        weights_UP = hypothesis.weights_HUP.mean(0)
        place_P = np.arange(weights_UP.shape[1])
        return list(weights_UP @ place_P / weights_UP.sum(1) * self._model.memory_frame_s)

    def _spans_s(
        self, hypothesis: Hypothesis, num_tokens: int, duration_s: float
    ) -> list[tuple[float, float]]:
        if hypothesis.weights_HUP is None or self._heads is None:
            share_s = duration_s / num_tokens
            return [(index * share_s, (index + 1) * share_s) for index in range(num_tokens)]
        frame_s, offset_s = self._model.memory_frame_s, self._heads.end_offset_s
        spans = token_spans(hypothesis.weights_HUP[:, :num_tokens])

        def clipped(frame: int) -> float:
            return min(max(frame * frame_s - offset_s, 0.0), duration_s)

        first = spans[0][0] * frame_s
        ends = [clipped(end) for _, end in spans]
        return list(zip([min(first, ends[0]), *ends[:-1]], ends, strict=True))

    def _words(
        self,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        spans_s: Sequence[tuple[float, float]],
    ) -> tuple[DecodedWord, ...]:
        found: list[DecodedWord] = []
        for word in self._tokenizer.decode_words(tokens):
            of_word = logprobs[word.start_token : word.end_token]
            confidence = math.exp(sum(of_word) / len(of_word))
            start_s, end_s = spans_s[word.start_token][0], spans_s[word.end_token - 1][1]
            found.append(DecodedWord(word.text, start_s, end_s, min(1.0, confidence)))
        return tuple(found)

    def _looks_wrong(self, decoded: Decoded) -> bool:
        options = self._options
        steps = decoded.tries[-1][1]
        return bool(decoded.num_tokens) and (
            steps > decoded.num_tokens + 1
            or decoded.compression_ratio > options.max_compression_ratio
            or decoded.avg_logprob < options.min_avg_logprob
        )

    def _better(self, first: Decoded, second: Decoded) -> Decoded:
        """Give the likelier try, a looping one only when both loop; both are paid for."""
        loops = [
            decoded.tries[-1][1] > decoded.num_tokens + 1
            or decoded.compression_ratio > self._options.max_compression_ratio
            for decoded in (first, second)
        ]
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


def compression_ratio(text: str) -> float:
    """Give bytes over compressed bytes; 0 for no text. Source: Whisper's `transcribe.py` (MIT)."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0
