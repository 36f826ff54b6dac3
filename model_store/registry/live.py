"""Live utterances on torch: what runs their tensors, and the model's parts around it.

Dimensions: T = frames, D = channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from model_store.backbones.device import device_of, wait_for
from model_store.backbones.incremental import Chunk, EncoderState, IncrementalEncoder
from model_store.backbones.moonshine import FRAME_SAMPLES, RECEPTIVE_SAMPLES, Moonshine
from model_store.decoding.live import LiveModel, LiveTranscript
from model_store.decoding.live_cache import TranscriptMemory
from model_store.decoding.live_decoder import DecoderState, LiveDecoder
from model_store.decoding.live_runner import CHUNK_FRAMES, LiveParts, LiveRunner
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.decoding.live_utterance import Framing, Samples
from model_store.decoding.live_utterance import LiveUtterance as Utterance
from model_store.decoding.reading import TranscriptReader
from model_store.depth import DepthPlan
from model_store.errors import CheckpointError
from model_store.flops import LiveCosts
from model_store.registry.recogniser import Recogniser
from model_store.text.agreement import CommitRule

LiveUtterance: TypeAlias = Utterance[EncoderState, DecoderState]
Request: TypeAlias = LiveRequest[LiveUtterance]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """How streams run.

    Args:
        chunk_frames: frames an encoder step takes, a multiple of the largest stride.
        rule: when a token is settled.
        reuse: go on from the cache of committed tokens; see `decoding.live.LiveModel`.
        cache_dtype: what keys and values are kept in.
    """

    chunk_frames: int = CHUNK_FRAMES
    rule: CommitRule = field(default_factory=CommitRule)
    reuse: bool = True
    cache_dtype: torch.dtype = torch.float16


class TorchMachine:
    """Runs a Moonshine's tensors; see `decoding.live_runner.LiveMachine`.

    Args:
        recogniser: whose heads are watched.
        module: its model.
        model: what transcripts need of it.
        options: how streams run.
    """

    def __init__(
        self, recogniser: Recogniser, module: Moonshine, model: LiveModel, options: LiveOptions
    ) -> None:
        heads = recogniser.heads
        self._module = module
        self._model = model
        self._options = options
        self._encoder = IncrementalEncoder(module.encoder, options.chunk_frames)
        self._decoder = LiveDecoder(module, heads.by_layer if heads else {})

    def open(self) -> tuple[EncoderState, DecoderState]:
        """Begin an utterance."""
        dtype, config = self._options.cache_dtype, self._module.config
        return EncoderState.begin(self._module.num_layers, dtype), DecoderState(
            TranscriptMemory.begin(config.decoder_layers, dtype),
            LiveTranscript(self._model, self._options.rule),
        )

    def check(self, plan: DepthPlan, encoder: EncoderState) -> None:
        """Refuse a plan that the utterance cannot go on with.

        Raises:
            PlanInvalid: it cannot.
        """
        self._encoder.check(plan, encoder)

    def encode(
        self,
        encoders: Sequence[EncoderState],
        samples: Sequence[Samples],
        plans: Sequence[DepthPlan],
    ) -> list[Tensor]:
        """Encode a chunk of each stream; give x_TD of each."""
        shares = zip(encoders, samples, plans, strict=True)
        chunks = [Chunk(state, torch.from_numpy(taken), plan) for state, taken, plan in shares]
        states = self._encoder.step(chunks)
        wait_for(device_of(self._module))
        return states

    def hear(self, decoders: Sequence[DecoderState], frames: Sequence[Tensor]) -> list[int]:
        """Pool what was encoded; give the pooled frames that each stream gained."""
        return self._decoder.hear(decoders, frames, [False] * len(decoders))

    def complete(self, decoders: Sequence[DecoderState]) -> list[int]:
        """Complete the last group of frames of each stream."""
        embedding_VD = self._module.decoder.embedding.weight
        nothing_TD = embedding_VD.new_zeros(0, self._module.config.dim).float()
        everyone = len(decoders)
        return self._decoder.hear(decoders, [nothing_TD] * everyone, [True] * everyone)

    def write(
        self, decoders: Sequence[DecoderState], most_tokens: Sequence[int], ended: Sequence[bool]
    ) -> None:
        """Bring transcripts up to date."""
        self._decoder.write(decoders, most_tokens, ended)


def can_stream(recogniser: Recogniser) -> bool:
    """Say whether a model's backbone has a chunk-by-chunk encoder here; exits of its own are for files."""
    return isinstance(recogniser.backbone, Moonshine) and not recogniser.backbone.config.exits


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
        if not isinstance(module, Moonshine):
            # Whisper hears its input clamped at the maximum of all of it and at absolute positions
            # that end at 30 s; nothing of it was trained to do otherwise.
            raise CheckpointError(
                f"expected a model that streams (moonshine), got {module.backbone!r}"
            )
        options = options or LiveOptions()
        model = LiveModel(
            prompt=module.prompt,
            end_token=module.config.end_token,
            row_s=module.memory_frame_s,
            reuse=options.reuse,
        )
        parts = LiveParts(
            model=model,
            framing=Framing(FRAME_SAMPLES, RECEPTIVE_SAMPLES),
            chunk_frames=options.chunk_frames,
            num_layers=recogniser.num_layers,
            reader=TranscriptReader(
                recogniser.tokenizer,
                recogniser.heads,
                module.memory_frame_s,
                confidence=recogniser.confidence,
                retries=False,
            ),
            tokenizer=recogniser.tokenizer,
            formula=LiveCosts(recogniser.sizes),
            hear_again=recogniser.transcribe_windows,
        )
        self._runner = LiveRunner(TorchMachine(recogniser, module, model, options), parts)

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
