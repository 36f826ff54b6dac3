"""What the processor multiplies fast, which decides how graphs are built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CPU_INFO = Path("/proc/cpuinfo")
GPU_DEVICE = Path("/dev/nvidiactl")
INT8_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "asimddp")
BFLOAT16_TILES = "amx_bf16"

Numerics = Literal["int8", "int8-reduced", "float32"]
"""Products of 8-bit rows, of 7-bit rows, or of float32 ones (for tests and comparisons).

Without an instruction for dot products of bytes, pairs of products are added in 16 bits, where
8-bit activations times 8-bit weights saturate and 7-bit ones do not.
"""

SERVED: tuple[Numerics, ...] = ("int8", "int8-reduced")
"""What `Processor.numerics` may say: files of both run on any processor that comes."""


@dataclass(frozen=True, slots=True)
class Processor:
    """Abilities of the machine this runs on."""

    int8_dot_products: bool
    bfloat16_tiles: bool

    @property
    def numerics(self) -> Numerics:
        """What to build for it."""
        return "int8" if self.int8_dot_products else "int8-reduced"


def read_processor(cpu_info: Path = CPU_INFO) -> Processor:
    """Read the abilities; where nothing can be read, none are assumed."""
    flags = cpu_info.read_text(encoding="utf-8").split() if cpu_info.exists() else []
    return Processor(
        int8_dot_products=any(flag in flags for flag in INT8_DOT_PRODUCTS),
        bfloat16_tiles=BFLOAT16_TILES in flags,
    )


def has_gpu(device: Path = GPU_DEVICE) -> bool:
    """Say whether a driver of a GPU that torch knows has been loaded."""
    return device.exists()
