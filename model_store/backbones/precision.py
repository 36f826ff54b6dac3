"""Which precision is fast here, and models whose matrices are bfloat16 for good.

On processors that multiply bfloat16 in hardware a product takes a quarter of float32's time, and
reading a matrix half; on others it is over a hundred times slower. Norms, attention, rotations and
everything between matrices stay float32.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BF16_FLAGS = ("avx512_bf16", "amx_bf16")
CPU_INFO = Path("/proc/cpuinfo")


def has_fast_bfloat16(cpu_info: Path = CPU_INFO) -> bool:
    """Tell whether this machine multiplies bfloat16 in hardware; its GPU where there is one."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return multiplies_bfloat16(torch.device(kind), cpu_info)


def multiplies_bfloat16(device: torch.device, cpu_info: Path = CPU_INFO) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        # Older GPUs say they support it and convert there and back.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not cpu_info.exists():
        return False
    flags = cpu_info.read_text(encoding="utf-8").split()
    return any(flag in flags for flag in BF16_FLAGS)


class Bfloat16Linear(nn.Linear):
    """A linear map with bfloat16 weights between float32 inputs and outputs."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 the name torch gives it
        """Multiply in bfloat16."""
        return F.linear(input.to(self.weight.dtype), self.weight, self.bias).float()


class Bfloat16Conv1d(nn.Conv1d):
    """A convolution with bfloat16 weights between float32 inputs and outputs."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 the name torch gives it
        """Convolve in bfloat16."""
        return super().forward(input.to(self.weight.dtype)).float()


KEPT_IN_BFLOAT16: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Bfloat16Linear,
    nn.Conv1d: Bfloat16Conv1d,
}


def to_bfloat16(model: nn.Module) -> None:
    """Turn the matrices of a model, its token embedding among them, to bfloat16, in place.

    Modules that say `keeps_float32` are left as they are, with all that is in them.
    """
    kept = {
        part
        for module in model.modules()
        if getattr(module, "keeps_float32", False)
        for part in module.modules()
    }
    for module in model.modules():
        if module in kept:
            continue
        if type(module) in KEPT_IN_BFLOAT16:
            module.to(torch.bfloat16)
            module.__class__ = KEPT_IN_BFLOAT16[type(module)]
        elif isinstance(module, nn.Embedding):
            module.to(torch.bfloat16)
