"""Backbone names to models: what `config.json` of a checkpoint says, made of random weights."""

from collections.abc import Callable, Mapping
from typing import Any

from model_store.backbones.conformer import Conformer, ConformerConfig
from model_store.backbones.moonshine import Moonshine, MoonshineConfig
from model_store.backbones.moonshine_streaming import MoonshineStreaming, MoonshineStreamingConfig
from model_store.backbones.wavlm import WavLM, WavLMConfig
from model_store.backbones.whisper import Whisper, WhisperConfig

SpeechModule = Moonshine | MoonshineStreaming | Whisper
"""A backbone with an attention decoder."""

CtcModule = Conformer | WavLM
"""A backbone whose read-out scores every frame."""

AnyModule = SpeechModule | CtcModule
"""Any backbone."""


def _moonshine(sizes: Mapping[str, Any]) -> SpeechModule:  # Any: JSON, checked by the dataclass
    tuples = {name: tuple(sizes[name]) for name in ("exits",) if name in sizes}
    values: dict[str, Any] = {**sizes, **tuples}
    return Moonshine(MoonshineConfig(**values))


def _moonshine_streaming(sizes: Mapping[str, Any]) -> SpeechModule:  # Any: as above
    tuples = {name: tuple(map(tuple, sizes[name])) for name in ("windows",) if name in sizes}
    values: dict[str, Any] = {**sizes, **tuples}
    return MoonshineStreaming(MoonshineStreamingConfig(**values))


def _whisper(sizes: Mapping[str, Any]) -> SpeechModule:  # Any: JSON, checked by the dataclass
    tuples = {name: tuple(sizes[name]) for name in ("prompt", "suppressed") if name in sizes}
    values: dict[str, Any] = {**sizes, **tuples}
    return Whisper(WhisperConfig(**values))


def _conformer(sizes: Mapping[str, Any]) -> CtcModule:  # Any: JSON, checked by the dataclass
    tuples = {name: tuple(sizes[name]) for name in ("exits",) if name in sizes}
    values: dict[str, Any] = {**sizes, **tuples}
    return Conformer(ConformerConfig(**values))


def _wavlm(sizes: Mapping[str, Any]) -> CtcModule:  # Any: as above
    names = ("conv_channels", "conv_kernels", "conv_strides")
    tuples = {name: tuple(sizes[name]) for name in names if name in sizes}
    values: dict[str, Any] = {**sizes, **tuples}
    return WavLM(WavLMConfig(**values))


BACKBONES: Mapping[str, Callable[[Mapping[str, Any]], AnyModule]] = {
    "conformer": _conformer,
    "moonshine": _moonshine,
    "moonshine_streaming": _moonshine_streaming,
    "wavlm": _wavlm,
    "whisper": _whisper,
}
