"""A loaded model: files and windows to words, with their times and what they cost."""

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from model_store.audio import AudioSource, SileroGate, SpeechGate, Window, cut_windows, open_audio
from model_store.backbones import AnyModule, CtcModule, SpeechModule
from model_store.backbones.device import device_of
from model_store.backbones.precision import multiplies_bfloat16, to_bfloat16
from model_store.checkpoint import Checkpoint
from model_store.decoding.alignment import AlignmentHeads, alignment_heads
from model_store.decoding.confidence import ConfidenceMap, confidence_map
from model_store.decoding.ctc import CtcWindowDecoder
from model_store.decoding.reading import Decoded, DecodedWord, WindowTranscript
from model_store.decoding.transcribe import WindowDecoder
from model_store.depth import INPUT, DepthPlan, DepthSchedule, PlanCatalogue
from model_store.errors import CheckpointError
from model_store.flops import ModelSizes, spent_on_tries
from model_store.registry.sizes import model_sizes
from model_store.text.bpe import letters_vocabulary
from model_store.text.tokens import Tokenizer

LONGEST_S = 4 * 3600.0
BATCH_WINDOWS = 4

Samples = npt.NDArray[np.float32]
Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True, slots=True)
class TranscriptSegment:
    """One window of a file; times from the file's start."""

    start_s: float
    end_s: float
    text: str
    words: tuple[DecodedWord, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """A whole file: words, depth and cost."""

    segments: tuple[TranscriptSegment, ...]
    plan: DepthPlan
    audio_s: float
    flops: int
    encoder_flops: int
    elapsed_s: float

    @property
    def text(self) -> str:
        """All words, windows joined by spaces."""
        return " ".join(segment.text for segment in self.segments if segment.text)


class Recogniser:
    """A model that transcribes at any depth it offers.

    Example:
        >>> import model_store
        >>> model = model_store.load("moonshine-base-elastic")
        >>> print(model.transcribe("talk.flac", drop=0.5).text)
    """

    def __init__(
        self,
        name: str,
        checkpoint: Checkpoint,
        precision: Precision = "auto",
        device: torch.device | None = None,
    ) -> None:
        """Wrap a checkpoint.

        Args:
            name: what it is called.
            checkpoint: its weights, which become this object's own, and plans.
            precision: of the matrices; `auto` takes bfloat16 where the device multiplies it.
            device: where the model runs; None for the processor.

        Raises:
            CheckpointError: its `tokenizer.json` is missing or damaged.
        """
        self.name = name
        self.device = device or torch.device("cpu")
        if precision == "auto":
            precision = "bfloat16" if multiplies_bfloat16(self.device) else "float32"
        self.precision: Precision = precision
        if precision == "bfloat16":
            to_bfloat16(checkpoint.module)
        checkpoint.module.to(self.device)
        self.catalogue: PlanCatalogue = checkpoint.catalogue
        self.backbone: AnyModule = checkpoint.module
        self.heads = heads = alignment_heads(checkpoint.decoding)
        self.confidence: ConfidenceMap | None = confidence_map(checkpoint.decoding)
        watched = sum(len(found) for found in heads.by_layer.values()) if heads else 0
        self.sizes: ModelSizes = dataclasses.replace(
            model_sizes(self.backbone), watched_heads=watched
        )
        self.tokenizer = _tokenizer(checkpoint.folder)
        self._decoder = _window_decoder(self.backbone, self.tokenizer, heads, self.confidence)

    @property
    def module(self) -> SpeechModule:
        """The model, where it has an attention decoder.

        Raises:
            CheckpointError: it has none.
        """
        if isinstance(self.backbone, CtcModule):
            raise CheckpointError(
                f"expected a model with an attention decoder, got a {self.backbone.backbone}"
            )
        return self.backbone

    @property
    def takes_hotwords(self) -> bool:
        """Whether hotwords make a difference."""
        return not isinstance(self.backbone, CtcModule)

    @property
    def num_layers(self) -> int:
        """Encoder layers, which depth plans are about."""
        return self.backbone.num_layers

    def transcribe(
        self,
        source: AudioSource | str,
        *,
        drop: float = 0.0,
        policy: str = "ladder",
        max_s: float = LONGEST_S,
        gate: SpeechGate | None = None,
    ) -> Transcript:
        """Transcribe a file of any length, format, rate and channel count.

        Args:
            source: path, bytes or an open binary file.
            drop: share of the depth to give up, in [0, 1).
            policy: one of the catalogue's `policies`; with `input` each window has its own plan,
                of as many effective layers as the one that the transcript names.
            max_s: the longest audio that is accepted.
            gate: tells speech from silence; made when None.

        Raises:
            AudioError: the audio cannot be used.
            DepthError: the depth asked for is not on offer.
        """
        plan = self.catalogue.choose(drop, policy=policy)
        started = time.perf_counter()
        opened = open_audio(Path(source) if isinstance(source, str) else source, max_s=max_s)
        windows = cut_windows(opened, gate=gate or SileroGate())
        segments: list[TranscriptSegment] = []
        flops = in_encoder = 0
        audio_s = 0.0
        for batch in _batches(windows):
            spoken = [window for window in batch if window.speech]
            audio_s = batch[-1].end_s
            for window, heard in zip(spoken, self._heard(spoken, plan, policy), strict=True):
                segments.append(_segment(window, heard))
                flops += heard.flops
                in_encoder += heard.encoder_flops
        elapsed_s = time.perf_counter() - started
        return Transcript(tuple(segments), plan, audio_s, flops, in_encoder, elapsed_s)

    def _heard(
        self, windows: Sequence[Window], plan: DepthPlan, policy: str
    ) -> list[WindowTranscript]:
        if policy != INPUT:
            return self.transcribe_windows([window.samples for window in windows], plan)
        return [self.transcribe_by_input(window.samples, plan)[0] for window in windows]

    def transcribe_by_input(
        self, samples: Samples, nominal: DepthPlan, *, words: bool = True
    ) -> tuple[WindowTranscript, DepthPlan]:
        """Transcribe one stretch of speech at the plan that the selector picks, its cost counted.

        Args:
            samples: as of `transcribe_windows`.
            nominal: what the catalogue gave for the budget.
            words: also give words with times and confidence.

        Raises:
            PolicyUnknown: no selector is shipped with the weights.
        """
        plan = self.catalogue.heard(samples, nominal)
        (transcript,) = self.transcribe_windows([samples], plan, words=words)
        assert self.catalogue.selector is not None, "it has picked a plan"
        spent = self.catalogue.selector.flops(len(samples))
        counted = dataclasses.replace(
            transcript,
            flops=transcript.flops + spent,
            encoder_flops=transcript.encoder_flops + spent,
        )
        return counted, plan

    def transcribe_windows(
        self,
        windows: Sequence[Samples],
        plan: DepthPlan,
        *,
        words: bool = True,
        chunk_frames: int | None = None,
        hotwords: Sequence[str] = (),
    ) -> list[WindowTranscript]:
        """Transcribe short stretches of speech as one batch, in the order given.

        Args:
            windows: float32 in [-1, 1] at 16 kHz, each at most half a minute.
            plan: stride of each layer.
            words: also give words with times and confidence.
            chunk_frames: chunk mask, None for full context.
            hotwords: words that may come, written where they nearly would have been; for models
                with an attention decoder, others ignore them.
        """
        if not windows:
            return []
        schedule = DepthSchedule.constant(plan)
        if isinstance(self._decoder, CtcWindowDecoder):
            decoded = self._decoder.decode(windows, schedule, chunk_frames, words=words)
        else:
            decoded = self._decoder.decode(
                windows, schedule, chunk_frames, words=words, hotwords=hotwords
            )
        return [self._with_cost(item, schedule) for item in decoded]

    def _with_cost(self, decoded: Decoded, schedule: DepthSchedule) -> WindowTranscript:
        spent = spent_on_tries(self.sizes, schedule, decoded.tries)
        return WindowTranscript.of(
            decoded, flops=spent.total, encoder_flops=spent.encoder, full_flops=spent.full
        )


def _window_decoder(
    model: AnyModule,
    tokenizer: Tokenizer,
    heads: AlignmentHeads | None,
    confidence: ConfidenceMap | None,
) -> WindowDecoder | CtcWindowDecoder:
    if isinstance(model, CtcModule):
        return CtcWindowDecoder(model, tokenizer, device_of(model))
    return WindowDecoder(model, tokenizer, heads, confidence=confidence)


def _tokenizer(folder: Path) -> Tokenizer:
    path, letters = folder / "tokenizer.json", folder / "vocab.json"
    # Published models that score every frame come with a list of letters instead.
    by_letter = letters.is_file() and not path.exists()
    try:
        values = json.loads((letters if by_letter else path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"expected JSON in {path.name!r}, got {error}") from error
    return Tokenizer(letters_vocabulary(values)) if by_letter else Tokenizer.from_file(path)


def _batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    batch: list[Window] = []
    for window in windows:
        batch.append(window)
        if len(batch) == BATCH_WINDOWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _segment(window: Window, heard: WindowTranscript) -> TranscriptSegment:
    words = tuple(
        dataclasses.replace(
            word, start_s=window.start_s + word.start_s, end_s=window.start_s + word.end_s
        )
        for word in heard.words
    )
    return TranscriptSegment(window.start_s, window.end_s, heard.text, words)
