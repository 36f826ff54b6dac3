"""Backbone names to models: what `config.json` of a checkpoint says, made of random weights."""

from collections.abc import Callable, Mapping
from typing import Any

from model_store.backbones.moonshine import Moonshine, MoonshineConfig
from model_store.backbones.moonshine_streaming import MoonshineStreaming, MoonshineStreamingConfig
from model_store.backbones.whisper import Whisper, WhisperConfig

SpeechModule = Moonshine | MoonshineStreaming | Whisper
"""Any backbone's module."""


def _moonshine(sizes: Mapping[str, Any]) -> SpeechModule:  # Any: JSON, checked by the dataclass
    return Moonshine(MoonshineConfig(**sizes))


def _moonshine_streaming(sizes: Mapping[str, Any]) -> SpeechModule:  # Any: as above
    tuples = {name: tuple(map(tuple, sizes[name])) for name in ("windows",) if name in sizes}
    values: dict[str, Any] = {**sizes, **tuples}
    return MoonshineStreaming(MoonshineStreamingConfig(**values))


def _whisper(sizes: Mapping[str, Any]) -> SpeechModule:  # Any: JSON, checked by the dataclass
    tuples = {name: tuple(sizes[name]) for name in ("prompt", "suppressed") if name in sizes}
    values: dict[str, Any] = {**sizes, **tuples}
    return Whisper(WhisperConfig(**values))


BACKBONES: Mapping[str, Callable[[Mapping[str, Any]], SpeechModule]] = {
    "moonshine": _moonshine,
    "moonshine_streaming": _moonshine_streaming,
    "whisper": _whisper,
}
