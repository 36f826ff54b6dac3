"""From a checkpoint to the graphs that this machine runs, kept in a cache.

    CACHE/<key>/manifest.json     SHA-256 of every file
    CACHE/<key>/<graph>.onnx, arrays.npz

The key is made of the weights' hash, the watched heads, what the processor can do and the form of
the graphs. A folder is written beside its place and moved there whole; a damaged one is replaced.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_store.decoding.alignment import AlignmentHeads, alignment_heads
from model_store.depth import STRIDES
from model_store.errors import CheckpointError
from service.engine.onnx.checkpoint import CheckpointFolder
from service.engine.onnx.processor import Numerics

logger = logging.getLogger(__name__)

GRAPH_FORM = 4
"""Rises when graphs are built in another way, so that older files are not read."""

MANIFEST = "manifest.json"
ARRAYS = "arrays.npz"
"""What is used outside the graphs: tokens' embeddings, weights of pooling and giving back."""


def ensure_built(checkpoint: CheckpointFolder, cache: Path, numerics: Numerics) -> Path:
    """Give the folder of a checkpoint's graphs, building them where they are missing or damaged.

    Raises:
        CheckpointError: the checkpoint is damaged, or graphs would have to be built and the
            package that builds them is not installed.
    """
    folder = cache / build_key(checkpoint, numerics)
    if is_whole(folder):
        return folder
    return build(checkpoint, cache, numerics)


def build(checkpoint: CheckpointFolder, cache: Path, numerics: Numerics) -> Path:
    """Build a checkpoint's graphs, replacing what is there.

    Raises:
        CheckpointError: as in `ensure_built`, or the cache cannot be written.
    """
    key = build_key(checkpoint, numerics)
    logger.info("building %s for %s in %s", checkpoint.name, numerics, cache / key)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f"{key}.") as made:
            partial = Path(made) / key
            partial.mkdir()
            _write(checkpoint, partial, numerics)
            _move(partial, cache / key)
    except OSError as error:
        raise CheckpointError(f"expected a cache that can be written, got {error}") from error
    return cache / key


def build_key(checkpoint: CheckpointFolder, numerics: Numerics) -> str:
    """Name the folder of a checkpoint's graphs."""
    heads = watched_heads(checkpoint)
    parts = [
        GRAPH_FORM,
        checkpoint.digest,
        checkpoint.activations_digest,
        numerics,
        sorted(heads.by_layer.items()) if heads else 0,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def watched_heads(checkpoint: CheckpointFolder) -> AlignmentHeads | None:
    """Give the alignment heads that were found on the model, where there are any."""
    return alignment_heads(checkpoint.decoding)


def is_whole(folder: Path) -> bool:
    """Say whether every file is there and is what was written."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return bool(files) and all(_digest(folder / name) == files[name] for name in files)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(checkpoint: CheckpointFolder, folder: Path, numerics: Numerics) -> None:
    for name, content in _graphs(checkpoint, numerics):
        (folder / f"{name}.onnx").write_bytes(content)
    np.savez(folder / ARRAYS, **_arrays(checkpoint))  # pyright: ignore[reportArgumentType]
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    manifest = {"model": checkpoint.name, "numerics": numerics, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _graphs(checkpoint: CheckpointFolder, numerics: Numerics) -> Iterator[tuple[str, bytes]]:
    try:
        import onnx as _onnx  # building alone needs it, serving what was built does not
    except ImportError as error:
        raise CheckpointError(
            "expected the extra `onnx` to build the engine's files, or files built by "
            "`asr build-engine`, got neither"
        ) from error
    del _onnx
    from service.engine.onnx.decoder_graph import decoder_step
    from service.engine.onnx.encoder_graphs import encoder_graphs

    weights = checkpoint.weights()
    yield from encoder_graphs(checkpoint.sizes, weights, numerics)
    heads = watched_heads(checkpoint)
    watched: Mapping[int, Sequence[int]] = heads.by_layer if heads else {}
    yield "decoder_step", decoder_step(checkpoint.sizes, weights, numerics, watched)


def _arrays(checkpoint: CheckpointFolder) -> dict[str, npt.NDArray[Any]]:
    weights = checkpoint.weights()
    embedding = weights.matrix("decoder.embedding")
    found: dict[str, npt.NDArray[Any]] = {
        "embedding": embedding.weight_NK,
        "embedding_scale": embedding.scale_N,
    }
    for layer in range(checkpoint.sizes.encoder_layers):
        for kind in ("pool", "give"):
            for stride in STRIDES[1:]:
                stored = weights.vector(f"encoder.stack.layers.{layer}.{kind}_RD.{stride}")
                found[f"{kind}_{layer}_{stride}"] = stored
    return found


def _move(made: Path, place: Path) -> None:
    if place.exists():
        if is_whole(place):
            return  # somebody else was quicker
        shutil.rmtree(place)
    made.rename(place)


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
