"""Live utterances on torch: a model's parts around the machine that runs its tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from model_store.backbones import moonshine_streaming as windowed
from model_store.backbones.moonshine import FRAME_SAMPLES, RECEPTIVE_SAMPLES, Moonshine
from model_store.backbones.moonshine_streaming import MoonshineStreaming
from model_store.decoding.live import LiveModel, LiveTranscript
from model_store.decoding.live_cache import TranscriptMemory
from model_store.decoding.live_decoder import DecoderState
from model_store.decoding.live_runner import CHUNK_FRAMES, LiveMachine, LiveParts, LiveRunner
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.decoding.live_utterance import Framing
from model_store.decoding.live_utterance import LiveUtterance as Utterance
from model_store.decoding.reading import SAMPLE_RATE_HZ, TranscriptReader
from model_store.errors import CheckpointError
from model_store.flops import LiveCosts
from model_store.registry.live_machine import Beginnings, ChunkMachine, Watched, WindowedMachine
from model_store.registry.recogniser import Recogniser
from model_store.text.agreement import WHOLE, CommitRule

LiveUtterance: TypeAlias = Utterance[Any, DecoderState]  # Any: the encoder's state, its machine's
Request: TypeAlias = LiveRequest[LiveUtterance]

LONGEST_SAMPLES = 30 * SAMPLE_RATE_HZ
"""What a decoder has to tell the places of apart, so that no utterance of a stream is too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """How streams run.

    Args:
        chunk_frames: frames an encoder step takes, a multiple of the largest stride.
        rule: when a token is settled.
        reuse: go on from the cache of committed tokens; see `decoding.live.LiveModel`.
        cache_dtype: what keys and values are kept in.
        final_calls: after which a final goes on in the next step; see `decoding.live_runner`.
    """

    chunk_frames: int = CHUNK_FRAMES
    rule: CommitRule = field(default_factory=CommitRule)
    reuse: bool = True
    cache_dtype: torch.dtype = torch.float16
    final_calls: int | None = None


def can_stream(recogniser: Recogniser) -> bool:
    """Say whether a model's backbone has a chunk-by-chunk encoder here; exits of its own are for files."""
    backbone = recogniser.backbone
    if isinstance(backbone, MoonshineStreaming):
        return backbone.config.memory_positions * windowed.FRAME_SAMPLES >= LONGEST_SAMPLES
    return isinstance(backbone, Moonshine) and not backbone.config.exits


class LiveRecogniser:
    """Runs live utterances of a model.

    Args:
        recogniser: whose model it is.
        options: how streams run.

    Raises:
        CheckpointError: the model's backbone has no chunk-by-chunk encoder.
    """

    def __init__(self, recogniser: Recogniser, options: LiveOptions | None = None) -> None:
        module = recogniser.backbone
        if not isinstance(module, Moonshine | MoonshineStreaming):
            # Whisper hears its input clamped at the maximum of all of it and at absolute positions
            # that end at 30 s; nothing of it was trained to do otherwise.
            raise CheckpointError(
                "expected a model that streams (moonshine or moonshine_streaming), "
                f"got {module.backbone!r}"
            )
        options = options or LiveOptions()
        model = LiveModel(
            prompt=module.prompt,
            end_token=module.config.end_token,
            row_s=module.memory_frame_s,
            reuse=options.reuse,
        )

        def begin() -> DecoderState:
            memory = TranscriptMemory.begin(module.config.decoder_layers, options.cache_dtype)
            return DecoderState(memory, LiveTranscript(model, options.rule))

        def begin_whole() -> DecoderState:
            memory = TranscriptMemory.begin(module.config.decoder_layers, torch.float32)
            return DecoderState(memory, LiveTranscript(model, WHOLE))

        heads = recogniser.heads
        watched = heads.by_layer if heads else {}
        machine, framing, reach = _machine(module, watched, Beginnings(begin, begin_whole), options)
        parts = LiveParts(
            model=model,
            framing=framing,
            chunk_frames=options.chunk_frames,
            num_layers=recogniser.num_layers,
            look_ahead_frames=module.encoder.stack.look_ahead_frames,
            reader=TranscriptReader(
                recogniser.tokenizer,
                recogniser.heads,
                module.memory_frame_s,
                confidence=recogniser.confidence,
            ),
            tokenizer=recogniser.tokenizer,
            formula=LiveCosts(recogniser.sizes, reach),
        )
        self._runner = LiveRunner(machine, parts, final_calls=options.final_calls)

    @property
    def chunk_s(self) -> float:
        """Seconds from one encoder step of a stream to the next."""
        return self._runner.chunk_s

    def open_utterance(self) -> LiveUtterance:
        """Begin an utterance: positions count from its first sample."""
        return self._runner.open_utterance()

    @torch.inference_mode()
    def step(self, requests: Sequence[Request]) -> list[LiveResult]:
        """Run all streams that are due as far as their samples go, whatever their plans.

        Raises:
            PlanInvalid: a plan is none of this model's, or skips other layers than its utterance
                did so far; nothing has changed then.
        """
        return self._runner.step(requests)


def _machine(
    module: Moonshine | MoonshineStreaming,
    watched: Watched,
    begin: Beginnings,
    options: LiveOptions,
) -> tuple[LiveMachine[Any, DecoderState], Framing, tuple[int, ...]]:
    """Give what runs a model, which samples its frames read, and how far each layer hears."""
    if isinstance(module, MoonshineStreaming):
        framing = Framing(windowed.FRAME_SAMPLES, windowed.STEP_SAMPLES)
        reach = tuple(window.back + window.ahead for window in module.encoder.windows)
        return WindowedMachine(module, watched, begin), framing, reach
    machine = ChunkMachine(module, watched, begin, options.chunk_frames, options.cache_dtype)
    return machine, Framing(FRAME_SAMPLES, RECEPTIVE_SAMPLES), ()
