"""A shipped selector: `selector.safetensors` beside the weights whose layers it picks."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model_store.depth.selector import Selector
from model_store.errors import CheckpointError, PlanInvalid

SELECTOR_FILE = "selector.safetensors"
ARRAYS = ("shift_F", "scale_F", "hidden_HF", "hidden_bias_H", "score_LOH", "score_bias_LO")


def save_selector(selector: Selector, folder: Path) -> None:
    """Write a selector into a checkpoint folder."""
    arrays = {name: getattr(selector, name) for name in ARRAYS}
    save_file(arrays, folder / SELECTOR_FILE, {"mode": selector.mode})


def load_selector(folder: Path, num_layers: int) -> Selector | None:
    """Read a folder's selector; None where none is shipped.

    Raises:
        CheckpointError: it is damaged, or of another model.
    """
    path = folder / SELECTOR_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 no dict
            selector = Selector.of((stored.metadata() or {}).get("mode", ""), arrays)
    except (OSError, SafetensorError, PlanInvalid) as error:
        raise CheckpointError(
            f"expected a selector of layers in {SELECTOR_FILE!r}, got {error}"
        ) from error
    if selector.num_layers != num_layers:
        raise CheckpointError(
            f"expected a selector of {num_layers} layers, got one of {selector.num_layers}"
        )
    return selector
