"""A checkpoint folder: weights in safetensors, sizes, plans and tokens beside them.

    config.json        {"backbone": "moonshine", "precision": "int8", "sha256": ..., sizes}
    model.safetensors  parameters; an int8 matrix `name` has its rows' scales in `name.scale`
    plans.json         {"ladder": ["1,1,...", ...], "skip": [...]}
    tokenizer.json     as the `tokenizers` library reads it
    selector.safetensors  picks plans by what is heard (`policy=input`), where one was trained
    activations.safetensors  what inputs of int8 matrices reach on speech, where it was measured
    decoding.json      alignment heads and limits found on the model, where there are any

Matrices are stored as int8 with one scale per output row, everything else as float16, but running
statistics, which may be larger than that holds, as they are; all is float32 on loading.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_store.backbones import BACKBONES, AnyModule, CtcModule, SpeechModule
from model_store.depth import PlanCatalogue
from model_store.depth.selector_file import load_selector
from model_store.errors import CheckpointError, PlanInvalid

SCALE = ".scale"
RUNNING = ".running_"
LARGEST_INT8 = 127


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a folder holds."""

    module: AnyModule
    catalogue: PlanCatalogue
    decoding: Mapping[str, Any]  # JSON, read by model_store.decoding
    folder: Path

    @property
    def model(self) -> SpeechModule:
        """The model, where it has an attention decoder, which some programs are about.

        Raises:
            CheckpointError: it has none.
        """
        if isinstance(self.module, CtcModule):
            raise CheckpointError(
                f"expected a model with an attention decoder, got a {self.module.backbone}"
            )
        return self.module


def save_checkpoint(
    model: AnyModule,
    catalogue: PlanCatalogue,
    folder: Path,
    *,
    int8: bool = False,
) -> None:
    """Write weights, sizes and plans; what else lies in the folder stays.

    Args:
        model: any backbone.
        catalogue: the plans it offers.
        folder: made when missing.
        int8: matrices as int8 per row and the rest as float16, else all as float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    stored = pack_int8(state) if int8 else state
    weights = folder / "model.safetensors"
    partial = weights.with_suffix(".partial")
    save_file(stored, partial)
    partial.replace(weights)
    config = {
        "backbone": model.backbone,
        "precision": "int8" if int8 else "float32",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        **dataclasses.asdict(model.config),
    }
    _write_json(folder / "config.json", config)
    save_catalogue(catalogue, folder)


def save_catalogue(catalogue: PlanCatalogue, folder: Path) -> None:
    """Write the plans a checkpoint offers."""
    plans = {
        "ladder": [str(plan) for plan in catalogue.ladder],
        "skip": [str(plan) for plan in catalogue.skip],
    }
    _write_json(folder / "plans.json", plans)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder that `save_checkpoint` wrote; the model is in eval mode, in float32.

    Raises:
        CheckpointError: a file is missing, damaged, or not what `config.json` says.
    """
    config = _read_json(folder / "config.json")
    name = config.pop("backbone", None)
    config.pop("precision", None)
    digest = config.pop("sha256", None)
    if not isinstance(name, str) or name not in BACKBONES:
        raise CheckpointError(f"expected a backbone out of {sorted(BACKBONES)}, got {name!r}")
    weights = folder / "model.safetensors"
    try:
        found = hashlib.sha256(weights.read_bytes()).hexdigest()
        if digest is not None and found != digest:
            raise CheckpointError(f"expected weights with SHA-256 {digest}, got {found}")
        state = unpack_int8(load_file(weights))
        model = BACKBONES[name](config)
        model.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"expected a {name} checkpoint in {folder.name!r}, got {error}"
        ) from error
    decoding = folder / "decoding.json"
    return Checkpoint(
        model.eval(),
        load_catalogue(folder, model.num_layers),
        _read_json(decoding) if decoding.exists() else {},
        folder,
    )


def load_catalogue(folder: Path, num_layers: int) -> PlanCatalogue:
    """Read the plans a checkpoint offers, and their word error rates where it has a card.

    Raises:
        CheckpointError: they are missing, damaged, or no plans of such a model.
    """
    plans, card = _read_json(folder / "plans.json"), folder / "card.json"
    try:
        catalogue = dataclasses.replace(
            PlanCatalogue.parse(num_layers, plans), selector=load_selector(folder, num_layers)
        )
        return catalogue.with_card(_read_json(card)) if card.exists() else catalogue
    except (KeyError, TypeError, ValueError, AttributeError, PlanInvalid) as error:
        raise CheckpointError(
            f"expected plans of {num_layers} layers in 'plans.json', got {error}"
        ) from error


def pack_int8(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Store matrices (weights of 2 and 3 dimensions) as int8 per row, most else as float16."""
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(".weight") and value.dim() in {2, 3}:
            rows = value.flatten(1)
            scale = rows.abs().amax(1).clamp(min=1e-12) / LARGEST_INT8
            packed[name] = (rows / scale[:, None]).round().to(torch.int8).view_as(value)
            packed[name + SCALE] = scale
        elif RUNNING in name:
            packed[name] = value.float()
        else:
            packed[name] = value.to(torch.float16)
    return packed


def unpack_int8(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack_int8`; float32 passes through."""
    state: dict[str, Tensor] = {}
    for name, value in stored.items():
        if name.endswith(SCALE):
            continue
        scale = stored.get(name + SCALE)
        state[name] = value.float()
        if scale is not None:
            state[name] *= scale.view(-1, *[1] * (value.dim() - 1))
    return state


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"expected JSON in {path.name!r}, got {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"expected an object in {path.name!r}, got {type(values).__name__}")
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
