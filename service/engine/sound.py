"""Any sound file as samples, without a model: for clients that stream what they read."""

from collections.abc import Generator
from pathlib import Path

from model_store.audio import open_audio
from service.engine.base import Samples
from service.engine.torch_engine import in_our_terms


def read_sound(path: Path, *, max_s: float) -> Generator[Samples]:
    """Decode a file block by block, as uploads are.

    Raises:
        AudioError: while iterating, as soon as it is known.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file, in_our_terms():
        yield from open_audio(file, max_s=max_s)
