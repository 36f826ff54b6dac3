"""Backbone names to models: what `config.json` of a checkpoint says, made of random weights."""

from collections.abc import Callable, Mapping
from typing import Any

from model_store.backbones.moonshine import Moonshine, MoonshineConfig

SpeechModule = Moonshine
"""Any backbone's module."""


def _moonshine(sizes: Mapping[str, Any]) -> SpeechModule:  # Any: JSON, checked by the dataclass
    return Moonshine(MoonshineConfig(**sizes))


BACKBONES: Mapping[str, Callable[[Mapping[str, Any]], SpeechModule]] = {"moonshine": _moonshine}
