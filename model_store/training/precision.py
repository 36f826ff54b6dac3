"""The precision a training step runs in."""

import contextlib

import torch

from model_store.backbones.precision import has_fast_bfloat16

__all__ = ["autocast", "has_fast_bfloat16"]


def autocast() -> contextlib.AbstractContextManager[object]:
    """Run in bfloat16 where that is fast."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, torch.bfloat16, enabled=has_fast_bfloat16())
