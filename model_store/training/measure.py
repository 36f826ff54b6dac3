"""Word error rate and operations of one model at one depth over a set of utterances."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_store.audio import SAMPLE_RATE_HZ, read_audio
from model_store.decoding.reading import DecodedWord, WindowTranscript
from model_store.depth import DepthPlan
from model_store.registry import Recogniser
from model_store.text.wer import WordErrors, normalised_word_errors, total
from model_store.training.manifest import Utterance, held_out_ids, read_manifest

BATCH_S = 80.0
MOST_ROWS = 24
NEITHER = "speechocean762-rest"
"""Utterances that are neither trained nor measured on: they share speakers with those that are."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An utterance in memory, with the text it is compared with."""

    utterance: Utterance
    samples: npt.NDArray[np.float32]
    reference: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model made of one recording; `words` only where they were asked for."""

    id: str
    text: str
    errors: WordErrors
    audio_s: float
    flops: int
    encoder_flops: int
    words: tuple[DecodedWord, ...] = ()


Transcribe = Callable[[Sequence[npt.NDArray[np.float32]]], Sequence[WindowTranscript]]
"""Hears a batch of recordings, in the order given."""


def held_out_recordings(manifest: Path, every: int = 1) -> list[Recording]:
    """Read a corpus' held-out utterances, or every n-th of them."""
    held = held_out_ids() - held_out_ids(NEITHER)
    chosen = [item for item in read_manifest(manifest) if item.id in held][::every]
    return [Recording(item, read_audio(item.path), item.transcript) for item in chosen]


def hear(
    model: Recogniser,
    recordings: Sequence[Recording],
    plan: DepthPlan,
    chunk_frames: int | None = None,
) -> list[Heard]:
    """Transcribe recordings in batches of similar lengths; in the order given."""

    def transcribe(windows: Sequence[npt.NDArray[np.float32]]) -> Sequence[WindowTranscript]:
        return model.transcribe_windows(windows, plan, words=False, chunk_frames=chunk_frames)

    return hear_with(transcribe, recordings)


def hear_with(transcribe: Transcribe, recordings: Sequence[Recording]) -> list[Heard]:
    """Transcribe recordings by whatever hears a batch, as `hear` does it with a model."""
    found: dict[str, Heard] = {}
    for batch in _batches(recordings):
        results = transcribe([recording.samples for recording in batch])
        for recording, result in zip(batch, results, strict=True):
            found[recording.utterance.id] = Heard(
                recording.utterance.id,
                result.text,
                normalised_word_errors(recording.reference, result.text),
                len(recording.samples) / SAMPLE_RATE_HZ,
                result.flops,
                result.encoder_flops,
                result.words,
            )
    return [found[recording.utterance.id] for recording in recordings]


def word_error_rate(heard: Sequence[Heard]) -> float:
    """All errors over all reference words."""
    return total(item.errors for item in heard).rate


def _batches(recordings: Sequence[Recording]) -> Iterator[list[Recording]]:
    batch: list[Recording] = []
    for recording in sorted(recordings, key=lambda item: len(item.samples)):
        seconds = len(recording.samples) / SAMPLE_RATE_HZ
        full = len(batch) >= MOST_ROWS or (len(batch) + 1) * seconds > BATCH_S
        if batch and full:
            yield batch
            batch = []
        batch.append(recording)
    if batch:
        yield batch
