"""`asr build-engine`: make the files that an engine runs from, before anybody waits for them."""

from pathlib import Path
from typing import TextIO

from service.engine import EngineName, choose_engine


def run(engine: EngineName, model: str, cache: Path, out: TextIO) -> int:
    """Build the int8 files of a model for this processor, where they are missing or damaged.

    Args:
        engine: whose files; the others than `onnx` run from a model as it is.
        model: shipped weights or a folder.
        cache: where what is built is kept.
        out: takes the folder that holds it.

    Returns:
        0.

    Raises:
        ModelUnusable: the model cannot be read, or not by this engine.
    """
    chosen = choose_engine(model) if engine == "auto" else engine
    if chosen != "onnx":
        out.write(f"the engine {chosen} has nothing to build\n")
        return 0
    from service.engine.onnx import build_onnx_engine

    out.write(f"{build_onnx_engine(model, cache)}\n")
    return 0
