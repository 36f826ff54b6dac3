"""Live utterances of models that score every frame: what is scored once never changes.

A frame's best token stays what it is, so all words but the last are settled as they come; the last
may still grow. One stream runs after the other: their caches are of different lengths, and a step
of 16 frames is enough work for a thread.

Dimensions: S = samples, T = encoder frames, D = channels, V = vocabulary.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from model_store.backbones.conformer import Conformer
from model_store.backbones.conformer_stream import ConformerStream, can_stream
from model_store.backbones.device import wait_for
from model_store.decoding.ctc import BestTokens, CtcWindowDecoder
from model_store.decoding.live_step import LiveCost, LiveRequest, LiveResult
from model_store.decoding.reading import SAMPLE_RATE_HZ, DecodedWord, Samples
from model_store.depth import DepthPlan
from model_store.errors import StreamingUnsupported
from model_store.flops import chunk_flops, live_front_end_flops
from model_store.registry.recogniser import Recogniser

CHUNK_FRAMES = 16
"""0.64 s, a multiple of the largest stride."""


def streams_frames(recogniser: Recogniser) -> bool:
    """Say whether a model scores every frame and hears nothing of the future."""
    return isinstance(recogniser.backbone, Conformer) and can_stream(recogniser.backbone)


@dataclass(slots=True, eq=False)
class CtcUtterance:
    """One utterance: the encoder's caches, the best token of every frame, its samples.

    Args:
        samples: kept for a second pass with full context.
    """

    stream: ConformerStream
    best: BestTokens
    samples: list[Samples] = field(default_factory=list[Samples])
    words: tuple[DecodedWord, ...] = ()

    @property
    def state_bytes(self) -> int:
        """Bytes of caches and samples."""
        return self.stream.num_bytes + sum(part.nbytes for part in self.samples)

    @property
    def num_samples(self) -> int:
        """Samples so far."""
        return sum(map(len, self.samples))


class CtcLiveRecogniser:
    """Runs live utterances of a causal Conformer.

    Args:
        recogniser: whose model it is.
        chunk_frames: frames an encoder step takes, a multiple of the largest stride.

    Raises:
        StreamingUnsupported: the model hears whole utterances alone.
    """

    def __init__(self, recogniser: Recogniser, chunk_frames: int = CHUNK_FRAMES) -> None:
        model = recogniser.backbone
        if not isinstance(model, Conformer) or not can_stream(model):
            raise StreamingUnsupported(
                f"expected a causal conformer, got {recogniser.name!r}, which takes files alone"
            )
        self._model = model
        self._recogniser = recogniser
        self._device = recogniser.device
        self._chunk_frames = chunk_frames
        self._decoder = CtcWindowDecoder(model, recogniser.tokenizer)

    @property
    def chunk_s(self) -> float:
        """Seconds from one encoder step of a stream to the next."""
        return self._chunk_frames * self._model.frame_s

    def open_utterance(self) -> CtcUtterance:
        """Begin an utterance: positions count from its first sample."""
        stream = ConformerStream(self._model, self._chunk_frames)
        return CtcUtterance(stream, BestTokens.none(self._model.blank))

    def step(self, requests: Sequence[LiveRequest[CtcUtterance]]) -> list[LiveResult]:
        """Run all streams that are due as far as their samples go, whatever their plans.

        Raises:
            PlanInvalid: a plan is none of this model's, or skips other layers than its utterance
                did so far; nothing has changed then.
        """
        for request in requests:
            request.utterance.stream.check(request.plan)
        return [self._run(request) for request in requests]

    def _run(self, request: LiveRequest[CtcUtterance]) -> LiveResult:
        utterance, cost = request.utterance, LiveCost()
        utterance.samples.append(request.samples)
        started = time.perf_counter()
        self._encode(request, cost)
        wait_for(self._device)
        cost.encode_s = time.perf_counter() - started
        audio_s = utterance.num_samples / SAMPLE_RATE_HZ
        encoded_s = min(audio_s, utterance.stream.num_frames * self._model.frame_s)
        if request.ends:
            encoded_s = audio_s
        if request.ends and request.second_pass and audio_s:
            self._hear_again(request, cost)
        elif request.decode or request.ends:
            utterance.words = self._decoder.words(utterance.best.spelled(), encoded_s)
        cost.decode_s = time.perf_counter() - started - cost.encode_s
        stable = len(utterance.words) if request.ends else max(0, len(utterance.words) - 1)
        return LiveResult(utterance.words, stable, encoded_s, cost)

    def _encode(self, request: LiveRequest[CtcUtterance], cost: LiveCost) -> None:
        stream = request.utterance.stream
        first, before = stream.num_frames, stream.cached_rows
        samples_S = torch.from_numpy(np.ascontiguousarray(request.samples)).to(self._device)
        # Nothing was ever said: there is no frame to complete.
        ends = request.ends and request.utterance.num_samples > 0
        for states_TD in stream.push(samples_S, request.plan, ends=ends):
            with torch.inference_mode():
                request.utterance.best.extend(self._model.log_probs(states_TD))
            self._count(request.plan, first, len(states_TD), before, cost)
            first += len(states_TD)
            before = [
                rows + -(-len(states_TD) // stride) if stride else rows
                for rows, stride in zip(before, request.plan.strides, strict=True)
            ]

    def _count(
        self, plan: DepthPlan, first: int, frames: int, before: Sequence[int], cost: LiveCost
    ) -> None:
        sizes = self._recogniser.sizes
        full = DepthPlan.full(sizes.encoder_layers)
        front_end = live_front_end_flops(sizes, first, frames)
        cost.add(
            front_end + chunk_flops(sizes, plan, frames, before),
            front_end + chunk_flops(sizes, full, frames, [first] * sizes.encoder_layers),
            encoder=True,
        )
        cost.add(2 * frames * sizes.dim * sizes.scored_per_frame)

    def _hear_again(self, request: LiveRequest[CtcUtterance], cost: LiveCost) -> None:
        """Transcribe the whole utterance with full context, at its end's plan."""
        utterance = request.utterance
        samples = np.concatenate(utterance.samples)
        (heard,) = self._recogniser.transcribe_windows([samples], request.plan)
        utterance.words = tuple(heard.words)
        cost.flops += heard.flops
        cost.encoder_flops += heard.encoder_flops
        cost.full_flops += heard.full_flops
