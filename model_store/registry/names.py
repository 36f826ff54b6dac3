"""Names to models: shipped weights, folders, and published checkpoints from the hub."""

import dataclasses
import json
from importlib import resources
from pathlib import Path

from model_store.backbones import AnyModule
from model_store.backbones.device import DeviceName, choose_device
from model_store.backbones.moonshine_streaming import LARGEST_OFFERED_STRIDE, MoonshineStreaming
from model_store.backbones.published import build_published, published_heads
from model_store.checkpoint import Checkpoint, load_checkpoint
from model_store.depth import PlanCatalogue
from model_store.errors import CheckpointError, ModelUnknown
from model_store.registry.recogniser import Recogniser

DEFAULT_MODEL = "moonshine-base-elastic"


def load(name: str = DEFAULT_MODEL, *, device: DeviceName = "cpu") -> Recogniser:
    """Load a model by name.

    Args:
        name: shipped weights (`shipped()` lists them), a folder that holds a checkpoint, or an
            identifier of the hub such as `UsefulSensors/moonshine-base`,
            `UsefulSensors/moonshine-streaming-tiny`, `openai/whisper-base` or any fine-tuned
            `WavLMForCTC` (extra `hub`). A folder may also be as the hub holds it.
        device: where it runs; `auto` is the GPU where torch can use one.

    Raises:
        ModelUnknown: the name is none of these.
        CheckpointError: its files are damaged or missing.
        DeviceMissing: a GPU is asked for where there is none.
    """
    place, folder = choose_device(device), Path(name)
    if name in shipped():
        folder = weights_folder() / name
    elif not folder.is_dir():
        if name.count("/") != 1:
            known = ", ".join(shipped())
            raise ModelUnknown(
                f"expected one of {known}, a folder, or an OWNER/NAME of the hub, got {name!r}"
            )
        return Recogniser(name, _from_hub(name), device=place)
    if not (folder / "config.json").is_file():
        raise ModelUnknown(f"expected a checkpoint with a config.json in {name!r}, got none")
    published = _is_published(folder)
    checkpoint = published_checkpoint(folder) if published else load_checkpoint(folder)
    return Recogniser(folder.resolve().name, checkpoint, device=place)


def shipped() -> list[str]:
    """Names of the weights that come with this package."""
    return sorted(p.parent.name for p in weights_folder().glob("*/config.json"))


def weights_folder() -> Path:
    """Where the shipped weights lie."""
    return Path(str(resources.files("model_store"))) / "weights"


def _from_hub(name: str) -> Checkpoint:
    """Fetch published weights, rename them, and offer untuned plans."""
    try:
        from huggingface_hub import snapshot_download  # an extra, and only here
    except ImportError as error:
        raise ModelUnknown(f"expected the extra `hub` to fetch {name!r}, got none") from error
    patterns = ["*.json", "*.safetensors"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
        if not any(folder.glob("*.safetensors")):
            # Older ones are pickled; transformers reads them without running what they hold.
            snapshot_download(name, allow_patterns=[*patterns, "pytorch_model*.bin"])
    except (OSError, ValueError) as error:  # the hub's own errors are both of these kinds
        raise ModelUnknown(f"expected {name!r} on the hub, could not fetch it") from error
    return published_checkpoint(folder)


def published_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder as the hub holds it: `config.json`, weights, `tokenizer.json` or `vocab.json`.

    Raises:
        CheckpointError: one of them is missing, damaged, or of another architecture.
    """
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"expected JSON in 'config.json', got {error}") from error
    model = build_published(values, folder / "model.safetensors")
    catalogue = untuned_catalogue(model)
    return Checkpoint(model, catalogue, published_heads(folder), folder)


def _is_published(folder: Path) -> bool:
    """Tell a folder as the hub holds it from a checkpoint of ours."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "backbone" not in values and "model_type" in values


def untuned_catalogue(model: AnyModule) -> PlanCatalogue:
    """Give the plans of a model of which nothing was measured yet."""
    catalogue = PlanCatalogue.untuned(model.num_layers)
    if not isinstance(model, MoonshineStreaming):
        return catalogue
    ladder = tuple(plan for plan in catalogue.ladder if max(plan.strides) <= LARGEST_OFFERED_STRIDE)
    return dataclasses.replace(catalogue, ladder=ladder)
