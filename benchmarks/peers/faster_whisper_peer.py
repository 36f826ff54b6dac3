"""Whisper by `faster-whisper`, int8: the engine that most servers of this kind are built on."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.peers.base import Samples, Setting

# Its cheapest decoding: one hypothesis, no second try at a higher temperature, no time tokens, and
# no VAD, since the utterances are cut already. All else is the library's default.
OPTIONS: Mapping[str, Setting] = MappingProxyType(
    {
        "language": "en",
        "beam_size": 1,
        "temperature": 0.0,
        "without_timestamps": True,
        "vad_filter": False,
        "condition_on_previous_text": False,
    }
)
COMPUTE_TYPE = "int8"


class FasterWhisper:
    """One Whisper size on CTranslate2; every utterance is padded to 30 s, as Whisper asks."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        # By name: the package belongs to the extra `bench`, and types are checked without it.
        library: Any = importlib.import_module("faster_whisper")
        self._name = name
        self._threads = threads
        self._model = library.WhisperModel(
            str(folder),
            device="cpu",
            compute_type=COMPUTE_TYPE,
            cpu_threads=threads,
            num_workers=1,
            local_files_only=True,
        )

    @property
    def name(self) -> str:
        """The name on the command line and in result files."""
        return self._name

    @property
    def config(self) -> Mapping[str, Setting]:
        """Decoding options and the engine's settings."""
        engine = {"engine": "faster-whisper", "compute_type": COMPUTE_TYPE}
        return {**engine, "threads": self._threads, **OPTIONS}

    def transcribe(self, samples: Samples) -> str:
        """Decode all segments; the library is lazy, so the work happens in the joining."""
        segments, _ = self._model.transcribe(samples, **OPTIONS)
        return "".join(segment.text for segment in segments).strip()
