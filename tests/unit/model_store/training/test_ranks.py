"""Gradients over ranks: their mean is the one that is worked out by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import distributed, multiprocessing, nn

from model_store.training.loop import step_seed
from model_store.training.ranks import ALONE, Ranks

pytestmark = pytest.mark.timeout(120)

GIVEN = (
    ([1.0, 2.0], [4.0], None, None),
    ([3.0, 0.0], None, [6.0], None),
)
"""By rank, the gradients of four parameters."""

MEAN = ([2.0, 1.0], [2.0], [3.0], None)


def parameters_of(place: int) -> list[nn.Parameter]:
    made: list[nn.Parameter] = []
    for gradient, mean in zip(GIVEN[place], MEAN, strict=True):
        parameter = nn.Parameter(torch.zeros(len(mean or [0.0])))
        parameter.grad = None if gradient is None else torch.tensor(gradient)
        made.append(parameter)
    return made


def average(place: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=place, world_size=2
    )
    parameters = parameters_of(place)
    Ranks(place, 2).average_gradients(parameters)
    found = {str(i): p.grad for i, p in enumerate(parameters) if p.grad is not None}
    save_file(found, f"{folder}/{place}.safetensors")
    distributed.destroy_process_group()


def test_a_gradient_that_one_rank_lacks_is_zero_there(tmp_path: Path) -> None:
    multiprocessing.spawn(average, (str(tmp_path),), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]

    for place in (0, 1):
        found = load_file(tmp_path / f"{place}.safetensors")
        expected = {str(i): mean for i, mean in enumerate(MEAN) if mean is not None}
        assert {name: gradient.tolist() for name, gradient in found.items()} == expected


def test_alone_gradients_stay_as_they_are() -> None:
    parameters = parameters_of(0)

    ALONE.average_gradients(parameters)

    assert [None if p.grad is None else p.grad.tolist() for p in parameters] == list(GIVEN[0])


def test_every_step_and_rank_drops_otherwise() -> None:
    seeds = {step_seed(1, step, place) for step in range(20) for place in range(4)}

    assert len(seeds) == 80
