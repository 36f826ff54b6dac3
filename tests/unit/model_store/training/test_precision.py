from pathlib import Path

import pytest
import torch

from model_store.training.precision import autocast, has_fast_bfloat16

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU decides")


@without_gpu
@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fpu avx2 avx512f avx512_bf16 amx_tile", True),
        ("fpu avx2 amx_bf16", True),
        ("fpu avx2 avx512f avx512_vnni", False),
        ("", False),
    ],
)
def test_the_processor_decides(tmp_path: Path, flags: str, fast: bool) -> None:
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text(f"processor\t: 0\nflags\t\t: {flags}\n", encoding="utf-8")

    assert has_fast_bfloat16(cpu_info) is fast


@without_gpu
def test_an_unknown_processor_stays_at_float32(tmp_path: Path) -> None:
    assert not has_fast_bfloat16(tmp_path / "none")


def test_autocast_runs_in_what_is_fast_here() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with autocast():
        product = torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)

    assert product.dtype == (torch.bfloat16 if has_fast_bfloat16() else torch.float32)
