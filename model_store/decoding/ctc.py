"""From scores at every frame to words: the best token of each, repeats joined, blanks left out.

Dimensions: B = windows, S = samples, T = encoder frames, V = vocabulary.

Source: Graves et al., Connectionist Temporal Classification, ICML 2006, section 3.2.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model_store.backbones.base import CtcModel
from model_store.backbones.device import wait_for
from model_store.decoding.reading import (
    SAMPLE_RATE_HZ,
    Decoded,
    DecodedWord,
    Samples,
    compression_ratio,
)
from model_store.depth import DepthSchedule
from model_store.text.tokens import Tokenizer, WordPiece


@dataclass(frozen=True, slots=True)
class Spelled:
    """Tokens of one window, and where each is said.

    Args:
        tokens: blanks left out.
        logprobs: natural logarithm of each token's probability, at its likeliest frame.
        first_frames, end_frames: first frame of each, and one past its last.
    """

    tokens: list[int]
    logprobs: list[float]
    first_frames: list[int]
    end_frames: list[int]


class CtcWindowDecoder:
    """Turns batches of windows into words at a given depth.

    Args:
        model: any backbone that scores every frame.
        tokenizer: of the model.
        device: where the model is; None for the processor.
    """

    def __init__(
        self, model: CtcModel, tokenizer: Tokenizer, device: torch.device | None = None
    ) -> None:
        self._model = model
        self._device = device or torch.device("cpu")
        self._tokenizer = tokenizer
        self._frame_s = model.frame_samples / SAMPLE_RATE_HZ

    def decode(
        self,
        windows: Sequence[Samples],
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
        *,
        words: bool = True,
    ) -> list[Decoded]:
        """Decode a batch.

        Args:
            windows: float32 in [-1, 1], 16 kHz; similar lengths waste least.
            schedule: depth along each window.
            chunk_frames: chunk mask, None for full context.
            words: also give words with times and confidence.

        Raises:
            StreamingUnsupported: a chunk mask is asked of a model that has none.
        """
        lengths = [len(samples) for samples in windows]
        samples_BS = torch.zeros(len(windows), max(lengths))
        for row, samples in enumerate(windows):
            samples_BS[row, : len(samples)] = torch.from_numpy(samples)
        started = time.perf_counter()
        with torch.inference_mode():
            num_samples_B = torch.tensor(lengths, device=self._device)
            encoded = self._model.encode(
                samples_BS.to(self._device), num_samples_B, schedule, chunk_frames
            )
            wait_for(self._device)
            encoded_at = time.perf_counter()
            log_probs_BTV = self._model.log_probs(encoded.states_BTD).cpu()
        spelled = [
            spell_greedily(log_probs_TV[:frames], self._model.blank)
            for log_probs_TV, frames in zip(
                log_probs_BTV, encoded.num_frames_B.tolist(), strict=True
            )
        ]
        encode_s, decode_s = encoded_at - started, time.perf_counter() - encoded_at
        return [
            self._read(one, length, encode_s, decode_s, length / sum(lengths), words=words)
            for one, length in zip(spelled, lengths, strict=True)
        ]

    def _read(
        self,
        spelled: Spelled,
        length: int,
        encode_s: float,
        decode_s: float,
        share: float,
        *,
        words: bool,
    ) -> Decoded:
        text = self._tokenizer.decode(spelled.tokens)
        found = self.words(spelled, length / SAMPLE_RATE_HZ) if words else ()
        return Decoded(
            text=text,
            words=found,
            num_tokens=len(spelled.tokens),
            avg_logprob=sum(spelled.logprobs) / max(1, len(spelled.logprobs)),
            compression_ratio=compression_ratio(text),
            looped=False,
            ended=True,
            tries=((length, 0),),
            encode_s=encode_s * share,
            decode_s=decode_s * share,
        )

    def words(self, spelled: Spelled, audio_s: float) -> tuple[DecodedWord, ...]:
        """Group tokens into words, with the times at which they are said, none after `audio_s`."""
        pieces = self._tokenizer.decode_words(spelled.tokens)
        firsts = [self._first_spoken(spelled.tokens, piece) for piece in pieces]
        return tuple(
            DecodedWord(
                piece.text,
                min(spelled.first_frames[first] * self._frame_s, audio_s),
                min(spelled.end_frames[piece.end_token - 1] * self._frame_s, audio_s),
                _confidence(spelled.logprobs[first : piece.end_token]),
            )
            for piece, first in zip(pieces, firsts, strict=True)
        )

    def _first_spoken(self, tokens: Sequence[int], piece: WordPiece) -> int:
        """Begin a word where its first letter is said, not where the space before it is."""
        first = piece.start_token
        while first < piece.end_token - 1 and not self._tokenizer.decode([tokens[first]]):
            first += 1
        return first


def spell_greedily(log_probs_TV: Tensor, blank: int) -> Spelled:
    """Take the likeliest token of each frame; join repeats, leave out blanks."""
    best = BestTokens.none(blank)
    best.extend(log_probs_TV)
    return best.spelled()


@dataclass(slots=True)
class BestTokens:
    """The likeliest token of every frame so far.

    Args:
        blank: the token that says nothing.
        tokens, logprobs: by frame.
    """

    blank: int
    tokens: list[int]
    logprobs: list[float]

    @classmethod
    def none(cls, blank: int) -> "BestTokens":
        """Before the first frame."""
        return cls(blank, [], [])

    def extend(self, log_probs_TV: Tensor) -> None:
        """Take further frames."""
        best = log_probs_TV.max(-1)
        self.tokens += best.indices.tolist()
        self.logprobs += best.values.tolist()

    def spelled(self) -> Spelled:
        """Join repeats, leave out blanks."""
        spelled, before = Spelled([], [], [], []), self.blank
        for frame, (token, logprob) in enumerate(zip(self.tokens, self.logprobs, strict=True)):
            if token == before and token != self.blank:
                spelled.end_frames[-1] = frame + 1
                spelled.logprobs[-1] = max(spelled.logprobs[-1], logprob)
            elif token != self.blank:
                spelled.tokens.append(token)
                spelled.logprobs.append(logprob)
                spelled.first_frames.append(frame)
                spelled.end_frames.append(frame + 1)
            before = token
        return spelled


def _confidence(logprobs: Sequence[float]) -> float:
    return min(1.0, math.exp(sum(logprobs) / len(logprobs)))
