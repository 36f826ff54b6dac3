"""Windows of samples to words with a model on torch; `decoding.reading` makes the words.

Dimensions: B = windows, S = samples.
"""

import time
from collections.abc import Mapping, Sequence

import torch

from model_store.backbones import SpeechModule
from model_store.backbones.device import device_of, wait_for
from model_store.decoding.alignment import AlignmentHeads
from model_store.decoding.confidence import ConfidenceMap
from model_store.decoding.greedy import decode_greedy
from model_store.decoding.hotwords import HotwordLists, Hotwords
from model_store.decoding.reading import (
    Decoded,
    DecodingOptions,
    Heard,
    Samples,
    TranscriptReader,
)
from model_store.depth import DepthSchedule
from model_store.text.tokens import Tokenizer


class WindowDecoder:
    """Turns batches of windows into words at a given depth.

    Args:
        model: any backbone with an attention decoder.
        tokenizer: of the model.
        heads: alignment heads; None gives words without times that mean anything.
        confidence: what raw confidences stand for; None leaves them raw.
        options: limits.
    """

    def __init__(
        self,
        model: SpeechModule,
        tokenizer: Tokenizer,
        heads: AlignmentHeads | None,
        options: DecodingOptions | None = None,
        confidence: ConfidenceMap | None = None,
    ) -> None:
        self._model = model
        self._heads = heads
        self._hotwords = HotwordLists(tokenizer)
        self._reader = TranscriptReader(
            tokenizer,
            heads,
            model.memory_frame_s,
            confidence=confidence,
            retries=not model.pads_input,
            options=options,
        )

    def decode(
        self,
        windows: Sequence[Samples],
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
        *,
        words: bool = True,
        hotwords: Sequence[str] = (),
    ) -> list[Decoded]:
        """Decode a batch; windows that look wrong get one more try, by themselves.

        Args:
            windows: float32 in [-1, 1], 16 kHz; similar lengths waste least.
            schedule: depth along each window.
            chunk_frames: chunk mask, None for full context.
            words: also give words with times and confidence.
            hotwords: words that may come, written where they nearly would have been.
        """
        expected = self._hotwords.of(hotwords)

        def listen(
            heard: Sequence[Samples], lengths: Sequence[int], max_tokens: Sequence[int]
        ) -> Heard:
            return self._listen(heard, lengths, max_tokens, (schedule, chunk_frames), expected)

        return self._reader.decode(windows, listen, words=words)

    def _listen(
        self,
        windows: Sequence[Samples],
        lengths: Sequence[int],
        max_tokens: Sequence[int],
        depth: tuple[DepthSchedule, int | None],
        hotwords: Hotwords | None,
    ) -> Heard:
        device = device_of(self._model)
        samples_BS = torch.zeros(len(windows), max(lengths))
        for row, samples in enumerate(windows):
            samples_BS[row, : len(samples)] = torch.from_numpy(samples)
        watched: Mapping[int, Sequence[int]] = self._heads.by_layer if self._heads else {}
        started = time.perf_counter()
        with torch.inference_mode():
            num_samples_B = torch.tensor(lengths, device=device)
            encoded = self._model.encode(samples_BS.to(device), num_samples_B, *depth)
        wait_for(device)
        encoded_at = time.perf_counter()
        end_token = self._model.config.end_token
        found = decode_greedy(self._model, encoded, max_tokens, end_token, watched, hotwords)
        return Heard(found, encoded_at - started, time.perf_counter() - encoded_at)
