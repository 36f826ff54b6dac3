"""Matrices in bfloat16 change a model's output by rounding alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model_store.backbones import SpeechModule
from model_store.backbones.precision import to_bfloat16
from tests.numerics.backbones import BACKBONES, constant, encode, noise


def states(model: SpeechModule) -> Tensor:
    return encode(model, *noise(24_000), constant(1, 2, 0)).states_BTD


def scores(model: SpeechModule) -> Tensor:
    with torch.inference_mode():
        encoded = encode(model, *noise(24_000), constant(1, 2, 0))
        cache = model.decoder.begin(model.decoder.pool(encoded), 4)
        return model.decoder(torch.tensor([[1, 5, 9]]), cache)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("run", [states, scores])
def test_what_comes_out_is_float32_and_near(
    name: str, run: Callable[[SpeechModule], Tensor]
) -> None:
    model = BACKBONES[name].build()
    exact = run(model)

    to_bfloat16(model)
    rounded = run(model)

    assert rounded.dtype == torch.float32
    error = (rounded - exact).square().mean() / exact.var()
    assert float(error) < 0.01


@pytest.mark.parametrize("name", BACKBONES)
def test_every_matrix_is_kept_in_bfloat16(name: str) -> None:
    model = BACKBONES[name].build()

    to_bfloat16(model)

    kinds = nn.Linear | nn.Conv1d | nn.Embedding
    matrices = [module.weight for module in model.modules() if isinstance(module, kinds)]
    assert {weight.dtype for weight in matrices} == {torch.bfloat16}
