"""Which precision trains fast here: bfloat16 where the processor multiplies it, else float32."""

import contextlib
from pathlib import Path

import torch

BF16_FLAGS = ("avx512_bf16", "amx_bf16")


def has_fast_bfloat16(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether autocast to bfloat16 pays.

    On a processor without these instructions it is over a hundred times slower than float32.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    if not cpu_info.exists():
        return False
    flags = cpu_info.read_text(encoding="utf-8").split()
    return any(flag in flags for flag in BF16_FLAGS)


def autocast() -> contextlib.AbstractContextManager[object]:
    """Run in bfloat16 where that is fast."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, torch.bfloat16, enabled=has_fast_bfloat16())
