"""Where tensors are: on the GPU where there is one, else with the processor."""

from typing import Literal

import torch
from torch import nn

from model_store.errors import DeviceMissing

DeviceName = Literal["auto", "cpu", "cuda"]


def choose_device(name: DeviceName) -> torch.device:
    """Give the device of a name; `auto` is the GPU where torch can use one.

    Raises:
        DeviceMissing: a GPU is asked for where torch can use none.
    """
    usable = torch.cuda.is_available()
    if name == "cuda" and not usable:
        raise DeviceMissing(
            f"expected a CUDA device that torch {torch.__version__} can use, got none"
        )
    return torch.device("cuda" if usable and name != "cpu" else "cpu")


def device_of(model: nn.Module) -> torch.device:
    """Give the device that a model's parameters are on, all of them on one."""
    return next(model.parameters()).device


def wait_for(device: torch.device) -> None:
    """Wait until what was asked of a device is done; without, a clock sees only the asking."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
