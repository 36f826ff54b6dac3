import pytest
import torch

from model_store.backbones.device import DeviceName, choose_device
from model_store.backbones.precision import multiplies_bfloat16
from model_store.errors import DeviceMissing


@pytest.mark.parametrize(
    ("name", "usable", "expected"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_a_name_becomes_a_device(
    monkeypatch: pytest.MonkeyPatch, name: DeviceName, usable: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)

    assert choose_device(name) == torch.device(expected)


def test_a_gpu_that_is_not_there_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(DeviceMissing, match="expected a CUDA device"):
        choose_device("cuda")


@pytest.mark.parametrize("natively", [True, False])
def test_a_gpu_that_only_converts_bfloat16_keeps_float32(
    monkeypatch: pytest.MonkeyPatch, natively: bool
) -> None:
    def supports(*, including_emulation: bool) -> bool:
        return natively or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supports)

    assert multiplies_bfloat16(torch.device("cuda")) is natively
