"""Engines behind one seam; `create_engine` is where a name becomes one."""

from typing import Literal

from service.engine.base import Engine

EngineName = Literal["auto", "torch", "fake"]


def create_engine(
    name: EngineName, *, model: str, num_threads: int, fake_realtime_factor: float
) -> Engine:
    """Build the engine that the settings name; nothing is loaded yet.

    Args:
        name: `auto` takes the best that is there, which today is torch.
        model: a shipped model, a folder, or a hub identifier.
        num_threads: threads one step of the engine may use.
        fake_realtime_factor: how slow the fake engine makes itself.
    """
    if name == "fake":
        from service.engine.fake import FakeEngine

        return FakeEngine(realtime_factor=fake_realtime_factor)
    # Imported here, because nobody should pay for torch who serves without it.
    from service.engine.torch_engine import create_torch_engine

    return create_torch_engine(model, num_threads=num_threads)
