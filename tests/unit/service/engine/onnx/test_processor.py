from pathlib import Path

import pytest

from service.engine.onnx.processor import has_gpu, read_processor


@pytest.mark.parametrize(
    ("flags", "numerics"),
    [
        ("fpu avx2 fma", "int8-reduced"),
        ("fpu avx2 avx512f avx512bw", "int8-reduced"),
        ("avx2 avx_vnni", "int8"),
        ("avx512f avx512_vnni amx_bf16", "int8"),
        ("fp asimd asimddp", "int8"),
        ("avx512_vnnix", "int8-reduced"),
    ],
)
def test_bytes_are_multiplied_whole_where_sums_cannot_saturate(
    tmp_path: Path, flags: str, numerics: str
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"model name : some\nflags : {flags}\n", encoding="utf-8")

    assert read_processor(info).numerics == numerics


def test_of_an_unknown_processor_nothing_is_assumed(tmp_path: Path) -> None:
    assert read_processor(tmp_path / "absent").numerics == "int8-reduced"


def test_a_gpu_is_there_with_its_device(tmp_path: Path) -> None:
    device = tmp_path / "nvidiactl"

    assert not has_gpu(device)
    device.touch()
    assert has_gpu(device)
