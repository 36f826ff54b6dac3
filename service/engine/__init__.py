"""Engines behind one seam; `create_engine` is where a name becomes one."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from service.engine.base import Engine
from service.errors import ModelUnusable

EngineName = Literal["auto", "onnx", "torch", "fake"]
DeviceName = Literal["auto", "cpu", "cuda"]


def create_engine(
    name: EngineName,
    *,
    model: str,
    num_threads: int,
    cache: Path,
    fake_realtime_factor: float,
    device: DeviceName = "auto",
) -> Engine:
    """Build the engine that the settings name; nothing is loaded yet.

    Args:
        name: `auto` takes what `choose_engine` says.
        model: a shipped model, a folder, or a hub identifier.
        num_threads: threads one step of the engine may use.
        cache: where an engine keeps what it builds.
        fake_realtime_factor: how slow the fake engine makes itself.
        device: where the torch engine runs; `auto` is the GPU where torch can use one.

    Raises:
        ModelUnusable: the engine needs torch, which is not installed.
    """
    chosen = choose_engine(model, device) if name == "auto" else name
    if chosen == "fake":
        from service.engine.fake import FakeEngine

        return FakeEngine(realtime_factor=fake_realtime_factor)
    if chosen == "onnx":
        from service.engine.onnx import create_onnx_engine

        return create_onnx_engine(model, num_threads=num_threads, cache=cache)
    if find_spec("torch") is None:
        raise ModelUnusable(
            f"expected torch for engine={name}, device={device}, found none; "
            "pip install 'elastic-asr[torch]'"
        )
    # Imported here, because nobody should pay for torch who serves without it.
    from service.engine.torch_engine import create_torch_engine

    return create_torch_engine(model, num_threads=num_threads, device=device)


def choose_engine(model: str, device: DeviceName = "auto") -> Literal["onnx", "torch"]:
    """Say which engine `auto` is for a model.

    The int8 engine where there is no GPU, the processor multiplies bytes, and the model is one
    that its files can be built from; torch otherwise. Where only one is installed, that one.

    Args:
        model: as `create_engine` takes it.
        device: too; whoever asks for the GPU gets torch, and with `cpu` a GPU counts for nothing.
    """
    if device == "cuda":
        return "torch"
    if find_spec("torch") is None:
        return "onnx"
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        return "torch"
    # Imported here, because a fake engine needs none of it.
    from service.engine.onnx import runs_well

    return "onnx" if runs_well(model, beside_gpu=device == "cpu") else "torch"
