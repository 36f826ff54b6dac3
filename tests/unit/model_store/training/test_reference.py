from dataclasses import fields
from pathlib import Path

import torch

from model_store.training.reference import Reference, load_references, save_references
from tests.training_kit import reference, references


def test_references_come_back_as_they_were_saved(tmp_path: Path) -> None:
    saved = references(5)

    save_references(saved, tmp_path / "made")
    loaded = load_references(tmp_path / "made")

    assert [item.id for item in loaded] == [item.id for item in saved]
    for one, other in zip(saved, loaded, strict=True):
        for field in fields(Reference)[1:]:
            value, again = getattr(one, field.name), getattr(other, field.name)
            assert value.dtype == again.dtype
            assert torch.equal(value, again)


def test_a_reference_counts_its_samples() -> None:
    assert reference("made/1", 1.5).num_samples == 24_000
