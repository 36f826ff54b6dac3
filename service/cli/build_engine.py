"""`asr build-engine`: make the files that an engine runs from, before anybody waits for them."""

from pathlib import Path
from typing import TextIO

from service.engine import DeviceName, EngineName, choose_engine


def run(
    engine: EngineName,
    model: str,
    cache: Path,
    out: TextIO,
    *,
    every_processor: bool = False,
    device: DeviceName = "auto",
) -> int:
    """Build the int8 files of a model, where they are missing or damaged.

    Args:
        engine: whose files; the others than `onnx` run from a model as it is.
        model: shipped weights or a folder.
        cache: where what is built is kept.
        out: takes the folders that hold it, one a line.
        every_processor: for all that may come, as an image needs it, not for this machine's alone.
        device: as `create_engine` takes it; the torch engine has nothing to build.

    Returns:
        0.

    Raises:
        ModelUnusable: the model cannot be read, or not by this engine.
    """
    chosen = choose_engine(model, device) if engine == "auto" else engine
    if chosen != "onnx":
        out.write(f"the engine {chosen} has nothing to build\n")
        return 0
    from service.engine.onnx import build_onnx_engine

    for folder in build_onnx_engine(model, cache, every_processor=every_processor):
        out.write(f"{folder}\n")
    return 0
