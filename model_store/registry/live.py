"""Live utterances: samples in as they come, words out that settle, every frame encoded once.

    samples --whole chunks--> encoder --frames--> decoder's memory --update--> words
       '- all kept as int16, for a second pass with full context at the end

Dimensions: S = samples at 16 kHz.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_store.backbones.incremental import Chunk, EncoderState, IncrementalEncoder
from model_store.backbones.moonshine import (
    FRAME_SAMPLES,
    RECEPTIVE_SAMPLES,
    SAMPLE_RATE_HZ,
    Moonshine,
)
from model_store.backbones.moonshine_stream import samples_of_frames
from model_store.decoding.live import LiveModel, LiveTranscript
from model_store.decoding.live_cache import TranscriptMemory
from model_store.decoding.live_decoder import DecoderState, LiveDecoder
from model_store.decoding.live_step import LiveCost, LiveRequest, LiveResult
from model_store.decoding.reading import DecodedWord, TranscriptReader
from model_store.depth import DepthPlan
from model_store.errors import CheckpointError
from model_store.flops import chunk_flops, live_decoder_flops, live_front_end_flops
from model_store.registry.recogniser import BATCH_WINDOWS, Recogniser
from model_store.text.agreement import CommitRule, stable_words

Samples = npt.NDArray[np.float32]

FULL_SCALE = 32_767
"""Of the 16-bit samples that a second pass hears again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """How streams run.

    Args:
        chunk_frames: frames an encoder step takes, a multiple of the largest stride.
        rule: when a token is settled.
        reuse: go on from the cache of committed tokens; see `decoding.live.LiveModel`.
        cache_dtype: what keys and values are kept in.
    """

    chunk_frames: int = 24
    rule: CommitRule = field(default_factory=CommitRule)
    reuse: bool = True
    cache_dtype: torch.dtype = torch.float16


@dataclass(slots=True, eq=False)
class LiveUtterance:
    """Everything kept of one utterance.

    Args:
        encoder, decoder: caches, tails and text.
        waiting: samples that no frame has read to its end yet.
        heard: all samples, 16 bits each, by push.
    """

    encoder: EncoderState
    decoder: DecoderState
    waiting: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    heard: list[npt.NDArray[np.int16]] = field(default_factory=list[npt.NDArray[np.int16]])
    num_samples: int = 0
    rows_written: int = 0
    words: tuple[DecodedWord, ...] = ()
    stable_words: int = 0
    ended: bool = False

    @property
    def num_frames(self) -> int:
        """Frames encoded."""
        return self.encoder.front_end.num_frames

    @property
    def state_bytes(self) -> int:
        """Bytes of caches, tails and samples."""
        samples = self.waiting.nbytes + sum(part.nbytes for part in self.heard)
        return samples + self.encoder.num_bytes + self.decoder.num_bytes

    def push(self, samples: Samples) -> None:
        """Take further samples."""
        if not len(samples):
            return
        self.waiting = np.concatenate([self.waiting, samples])
        scaled = np.rint(np.clip(samples, -1.0, 1.0) * FULL_SCALE)
        self.heard.append(scaled.astype(np.int16))
        self.num_samples += len(samples)

    def take(self, num_frames: int) -> Tensor:
        """Give the samples that this many further frames need."""
        done = self.num_frames
        needed = samples_of_frames(done + num_frames) - samples_of_frames(done)
        taken, self.waiting = self.waiting[:needed], self.waiting[needed:].copy()
        return torch.from_numpy(taken)

    def all_samples(self) -> Samples:
        """Give the whole utterance again."""
        return np.concatenate(self.heard).astype(np.float32) / np.float32(FULL_SCALE)


def can_stream(recogniser: Recogniser) -> bool:
    """Say whether a model's backbone has a chunk-by-chunk encoder here."""
    return isinstance(recogniser.module, Moonshine)


Request: TypeAlias = LiveRequest[LiveUtterance]


class LiveRecogniser:
    """Runs live utterances of a model.

    Args:
        recogniser: whose model it is.
        options: how streams run.

    Raises:
        CheckpointError: the model's backbone has no chunk-by-chunk encoder.
    """

    def __init__(self, recogniser: Recogniser, options: LiveOptions | None = None) -> None:
        module = recogniser.module
        if not isinstance(module, Moonshine):
            # Whisper hears its input clamped at the maximum of all of it and at absolute positions
            # that end at 30 s; nothing of it was trained to do otherwise.
            raise CheckpointError(
                f"expected a model that streams (moonshine), got {module.backbone!r}"
            )
        self._recogniser = recogniser
        self._module: Moonshine = module
        self._options = options or LiveOptions()
        self._sizes = recogniser.sizes
        self._full = DepthPlan.full(recogniser.num_layers)
        self._encoder = IncrementalEncoder(module.encoder, self._options.chunk_frames)
        heads = recogniser.heads
        self._decoder = LiveDecoder(module, heads.by_layer if heads else {})
        self._reader = TranscriptReader(
            recogniser.tokenizer, heads, module.memory_frame_s, retries=False
        )
        self._model = LiveModel(
            prompt=module.prompt,
            end_token=module.config.end_token,
            row_s=module.memory_frame_s,
            reuse=self._options.reuse,
        )

    @property
    def chunk_s(self) -> float:
        """Seconds from one encoder step of a stream to the next."""
        return self._options.chunk_frames * FRAME_SAMPLES / SAMPLE_RATE_HZ

    def open_utterance(self) -> LiveUtterance:
        """Begin an utterance: positions count from its first sample."""
        dtype = self._options.cache_dtype
        layers = self._module.config.decoder_layers
        return LiveUtterance(
            EncoderState.begin(self._recogniser.num_layers, dtype),
            DecoderState(
                TranscriptMemory.begin(layers, dtype),
                LiveTranscript(self._model, self._options.rule),
            ),
        )

    @torch.inference_mode()
    def step(self, requests: Sequence[Request]) -> list[LiveResult]:
        """Run all streams that are due as far as their samples go, whatever their plans.

        Raises:
            PlanInvalid: a plan is none of this model's, or skips other layers than its utterance
                did so far; nothing has changed then.
        """
        for request in requests:
            assert not request.utterance.ended, "expected an utterance that has not ended"
            self._encoder.check(request.plan, request.utterance.encoder)
        costs = [LiveCost() for _ in requests]
        pairs = list(zip(requests, costs, strict=True))
        for request in requests:
            request.utterance.push(request.samples)
        first = [(r, c) for r, c in pairs if not (r.ends and r.second_pass)]
        while due := [(r, c, n) for r, c in first if (n := self._frames_due(r))]:
            self._encode(due)
        self._close([(r, c) for r, c in first if r.ends])
        self._write([(r, c) for r, c in first if r.decode or r.ends])
        self._hear_again([(r, c) for r, c in pairs if r.ends and r.second_pass])
        return [self._result(request, cost) for request, cost in pairs]

    def _frames_due(self, request: Request) -> int:
        """Give the frames of the chunk that a stream can run now; fewer than a chunk only at its end."""
        utterance, chunk_frames = request.utterance, self._options.chunk_frames
        done = utterance.num_frames
        if request.ends and 0 < utterance.num_samples < RECEPTIVE_SAMPLES and not done:
            missing = RECEPTIVE_SAMPLES - len(utterance.waiting)
            utterance.waiting = np.pad(utterance.waiting, (0, max(0, missing)))
        there = samples_of_frames(done) + len(utterance.waiting)
        frames = max(0, (there - RECEPTIVE_SAMPLES) // FRAME_SAMPLES + 1) - done
        return min(frames, chunk_frames) if frames >= chunk_frames or request.ends else 0

    def _encode(self, due: Sequence[tuple[Request, LiveCost, int]]) -> None:
        started = time.perf_counter()
        chunks = [
            Chunk(r.utterance.encoder, r.utterance.take(frames), r.plan) for r, _, frames in due
        ]
        for request, cost, frames in due:
            self._book_chunk(request, cost, frames)
        states = self._encoder.step(chunks)
        encoded = time.perf_counter()
        decoders = [r.utterance.decoder for r, _, _ in due]
        rows = self._decoder.hear(decoders, states, [False] * len(due))
        heard = time.perf_counter()
        total = sum(frames for _, _, frames in due)
        for (_, cost, frames), gained in zip(due, rows, strict=True):
            cost.add(live_decoder_flops(self._sizes, gained, ()))
            cost.encode_s += (encoded - started) * frames / total
            cost.decode_s += (heard - encoded) * frames / total

    def _book_chunk(self, request: Request, cost: LiveCost, frames: int) -> None:
        done = request.utterance.num_frames
        rows = [store.num_rows for store in request.utterance.encoder.layers]
        front_end = live_front_end_flops(self._sizes, done, frames)
        cost.add(
            front_end + chunk_flops(self._sizes, request.plan, frames, rows),
            front_end + chunk_flops(self._sizes, self._full, frames, [done] * len(rows)),
            encoder=True,
        )

    def _close(self, ending: Sequence[tuple[Request, LiveCost]]) -> None:
        """Complete the last group of frames of each stream that ends."""
        nothing = self._module.decoder.embedding.weight.new_zeros(
            0, self._module.config.dim
        ).float()
        decoders = [r.utterance.decoder for r, _ in ending]
        rows = self._decoder.hear(decoders, [nothing] * len(ending), [True] * len(ending))
        for (_, cost), gained in zip(ending, rows, strict=True):
            cost.add(live_decoder_flops(self._sizes, gained, ()))

    def _write(self, asked: Sequence[tuple[Request, LiveCost]]) -> None:
        due = [(r, c) for r, c in asked if self._has_news(r)]
        if not due:
            return
        started = time.perf_counter()
        states = [r.utterance.decoder for r, _ in due]
        settled = [len(state.transcript.committed.tokens) for state in states]
        most = [self._reader.most_tokens(r.utterance.num_samples) for r, _ in due]
        self._decoder.write(states, most, [r.ends for r, _ in due])
        for (request, cost), before in zip(due, settled, strict=True):
            utterance, state = request.utterance, request.utterance.decoder
            utterance.rows_written = state.memory.num_rows
            cost.add(live_decoder_flops(self._sizes, 0, state.calls))
            state.calls.clear()
            if request.ends:
                self._settle(utterance, before)
            else:
                self._caption(utterance)
        share_s = (time.perf_counter() - started) / len(due)
        for _, cost in due:
            cost.decode_s += share_s

    def _has_news(self, request: Request) -> bool:
        rows = request.utterance.decoder.memory.num_rows
        return rows > 0 and (request.ends or rows > request.utterance.rows_written)

    def _settle(self, utterance: LiveUtterance, settled: int) -> None:
        """Read the words of an utterance that has ended."""
        audio_s = utterance.num_samples / SAMPLE_RATE_HZ
        decoded = self._reader.read(
            utterance.decoder.transcript.hypothesis(),
            utterance.num_samples,
            audio_s,
            words=True,
            settled=settled,
        )
        utterance.words = decoded.words
        utterance.stable_words = len(decoded.words)

    def _caption(self, utterance: LiveUtterance) -> None:
        """Read the words so far, each where attention was while it was written."""
        transcript = utterance.decoder.transcript
        written = transcript.committed + transcript.tentative
        audio_s = self._encoded_s(utterance)
        rows = written.position_rows or np.linspace(0, utterance.rows_written, len(written.tokens))
        end_s = np.maximum.accumulate([(row + 1) * self._model.row_s for row in rows] or [0.0])
        utterance.words = self._reader.words(
            written.tokens, written.logprobs, end_s.tolist(), audio_s
        )
        pieces = self._recogniser.tokenizer.decode_words(written.tokens)
        utterance.stable_words = stable_words(pieces, len(transcript.committed.tokens))

    def _hear_again(self, ending: Sequence[tuple[Request, LiveCost]]) -> None:
        """Run whole utterances with full context, those of one plan together."""
        by_plan: dict[DepthPlan, list[tuple[Request, LiveCost]]] = {}
        for request, cost in ending:
            if request.utterance.num_samples:
                by_plan.setdefault(request.plan, []).append((request, cost))
        for plan, members in by_plan.items():
            for start in range(0, len(members), BATCH_WINDOWS):
                batch = members[start : start + BATCH_WINDOWS]
                windows = [request.utterance.all_samples() for request, _ in batch]
                heard = self._recogniser.transcribe_windows(windows, plan)
                for (request, cost), found in zip(batch, heard, strict=True):
                    request.utterance.words = found.words
                    request.utterance.stable_words = len(found.words)
                    cost.flops += found.flops
                    cost.encoder_flops += found.encoder_flops
                    cost.full_flops += found.full_flops
                    cost.encode_s += found.encode_s
                    cost.decode_s += found.decode_s

    def _result(self, request: Request, cost: LiveCost) -> LiveResult:
        utterance = request.utterance
        utterance.ended = request.ends
        encoded_s = (
            utterance.num_samples / SAMPLE_RATE_HZ if request.ends else self._encoded_s(utterance)
        )
        return LiveResult(utterance.words, utterance.stable_words, encoded_s, cost)

    def _encoded_s(self, utterance: LiveUtterance) -> float:
        return samples_of_frames(utterance.num_frames) / SAMPLE_RATE_HZ
