"""Elastic-depth speech recognition as a library: load a model, transcribe at any depth.

Names are looked up when they are first used, so that the parts that need no torch (`depth`,
`audio`, `text`, `flops`) can be imported without it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_store.registry import Recogniser, Transcript, load, shipped

__all__ = ["Recogniser", "Transcript", "load", "shipped"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from model_store import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
