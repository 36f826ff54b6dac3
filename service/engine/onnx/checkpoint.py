"""A checkpoint folder, read without torch: sizes, plans, tokens, and int8 matrices as stored.

The format is `model_store.checkpoint`'s; beside the weights may lie what inputs of matrices reach on
speech (`model_store.recipes.measure_activations`). Geometry of the front end: Moonshine, arXiv 2410.15608.

Dimensions: N = output rows of a matrix, K = its inputs.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from model_store.depth import PlanCatalogue
from model_store.depth.selector_file import load_selector
from model_store.errors import CheckpointError, ModelUnknown, PlanInvalid
from model_store.flops import Convolution, ModelSizes

Floats = npt.NDArray[np.float32]
Int8s = npt.NDArray[np.int8]

BACKBONE = "moonshine"
KERNELS = (127, 7, 3)
CONV_STRIDES = (64, 3, 2)
FRAME_SAMPLES = 64 * 3 * 2
"""Samples from one frame's start to the next one's: 24 ms."""
RECEPTIVE_SAMPLES = 895
"""Frame t reads samples 384 t to 384 t + 894."""
SAMPLE_RATE_HZ = 16_000
SCALE = ".scale"
LARGEST_INT8 = 127
ACTIVATIONS = "activations.safetensors"
REACHED = ".reached_K"
LEAST_REACHED = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of a Moonshine model, as `config.json` states them."""

    dim: int
    inner_dim: int
    num_heads: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int
    rotated: int
    front_end_rank: int
    memory_pool: int
    bypass_rank: int
    start_token: int
    end_token: int
    look_ahead_frames: int = 0

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.dim // self.num_heads

    @property
    def memory_frame_s(self) -> float:
        """Seconds of audio in one frame that the decoder sees."""
        return self.memory_pool * FRAME_SAMPLES / SAMPLE_RATE_HZ

    def num_frames(self, num_samples: int) -> int:
        """Encoder frames of an utterance; shorter than one frame counts as one."""
        return 1 + (max(num_samples, RECEPTIVE_SAMPLES) - RECEPTIVE_SAMPLES) // FRAME_SAMPLES

    def for_flops(self, watched_heads: int) -> ModelSizes:
        """Give what the FLOPs formula needs."""
        dim, rank = self.dim, self.front_end_rank
        second = (
            (Convolution(dim, rank, KERNELS[1], CONV_STRIDES[1]), Convolution(rank, 2 * dim, 1, 1))
            if rank
            else (Convolution(dim, 2 * dim, KERNELS[1], CONV_STRIDES[1]),)
        )
        return ModelSizes(
            convolutions=(
                Convolution(1, dim, KERNELS[0], CONV_STRIDES[0]),
                *second,
                Convolution(2 * dim, dim, KERNELS[2], CONV_STRIDES[2]),
            ),
            dim=dim,
            head_dim=self.head_dim,
            encoder_layers=self.encoder_layers,
            mlp_multiply_adds=2 * dim * self.inner_dim,
            bypass_rank=self.bypass_rank,
            decoder_layers=self.decoder_layers,
            decoder_mlp_multiply_adds=3 * dim * self.inner_dim,
            memory_pool=self.memory_pool,
            vocabulary=self.vocabulary,
            prompt_tokens=1,
            watched_heads=watched_heads,
            shortest_input=RECEPTIVE_SAMPLES,
        )


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of int8 with a scale each: row n is `weight_NK[n] * scale_N[n]`."""

    weight_NK: Int8s
    scale_N: Floats

    @classmethod
    def stack(cls, matrices: "list[Matrix]") -> "Matrix":
        """Put matrices of equal inputs on top of each other."""
        return cls(
            np.concatenate([one.weight_NK for one in matrices]),
            np.concatenate([one.scale_N for one in matrices]),
        )

    @classmethod
    def pack(cls, value_NK: Floats) -> "Matrix":
        """Round rows to int8, each by its own largest value."""
        scale_N = np.abs(value_NK).max(axis=1).clip(min=1e-12) / LARGEST_INT8
        packed_NK = cast("Floats", np.round(value_NK / scale_N[:, None]))
        return cls(packed_NK.astype(np.int8), scale_N.astype(np.float32))

    def unpacked(self) -> Floats:
        """Give the rows in float32."""
        return self.weight_NK.astype(np.float32) * self.scale_N[:, None]

    def times(self, factor_K: Floats) -> "Matrix":
        """Multiply every input's weights by a factor of its own; rounded again."""
        return Matrix.pack(self.unpacked() * factor_K)


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters by name, as stored."""

    stored: Mapping[str, npt.NDArray[Any]]

    def vector(self, name: str) -> Floats:
        """Give a parameter that is no matrix."""
        return self.stored[name].astype(np.float32)

    def matrix(self, name: str) -> Matrix:
        """Give a matrix by the name of its module; a convolution's kernel becomes a row's inputs.

        Shapes: (N, channels, kernel) -> (N, kernel * channels), the kernel's place first.
        """
        value = self.stored[f"{name}.weight"]
        if value.ndim > 2:  # noqa: PLR2004 a convolution
            value = value.transpose(0, 2, 1).reshape(len(value), -1)
        scale = self.stored.get(f"{name}.weight{SCALE}")
        if scale is not None:
            return Matrix(np.ascontiguousarray(value), scale.astype(np.float32))
        return Matrix.pack(value)

    def balance(self, name: str) -> Floats:
        """Give a factor for each input of a matrix by which rows are divided and weights multiplied.

        The geometric mean of what the input reaches and the inverse of what its weights reach, so
        that rounding to bytes costs both about as much; ones where nothing was measured. Source:
        SmoothQuant, arXiv 2211.10438, equation 4 with alpha = 0.5.
        """
        matrix: Floats = self.matrix(name).unpacked()
        if f"{name}{REACHED}" not in self.stored:
            return np.ones_like(matrix[0])
        reached_K = np.maximum(self.vector(f"{name}{REACHED}"), LEAST_REACHED)
        weights_K = np.maximum(np.abs(matrix).max(axis=0), LEAST_REACHED)
        log_K: Floats = np.log(reached_K / weights_K) / 2
        return np.exp(log_K - log_K.mean())


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """A model's folder; `digest` is the SHA-256 of its weights."""

    name: str
    folder: Path
    sizes: Sizes
    catalogue: PlanCatalogue
    decoding: Mapping[str, Any]
    digest: str

    @property
    def activations_digest(self) -> str:
        """SHA-256 of what was measured of the inputs of matrices; empty where nothing was."""
        path = self.folder / ACTIVATIONS
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""

    def weights(self) -> Weights:
        """Read the parameters.

        Raises:
            CheckpointError: the file is missing, damaged, or not the one that `config.json` names.
        """
        path = self.folder / "model.safetensors"
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != self.digest:
                raise CheckpointError(f"expected weights with SHA-256 {self.digest}, got {found}")
            measured = self.folder / ACTIVATIONS
            return Weights(_tensors(path) | (_tensors(measured) if measured.exists() else {}))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"expected weights in {self.folder.name!r}, got {error}"
            ) from error


def open_checkpoint(name: str) -> CheckpointFolder:
    """Find a model by the name of shipped weights or its folder; the weights are not read yet.

    Raises:
        ModelUnknown: the name is neither.
        CheckpointError: a file is missing or damaged, or the backbone is another one.
    """
    folder = Path(str(files("model_store"))) / "weights" / name
    if "/" in name or not folder.is_dir():
        folder = Path(name)
    if not (folder / "config.json").is_file():
        raise ModelUnknown(f"expected shipped weights or a folder with a checkpoint, got {name!r}")
    config = _read_json(folder / "config.json")
    if config.get("backbone") != BACKBONE:
        raise CheckpointError(
            f"expected the backbone {BACKBONE!r} for this engine, got {config.get('backbone')!r}"
        )
    if config.get("exits"):
        raise CheckpointError("expected a model without exits for this engine, got one with them")
    try:
        known = {"look_ahead_frames": 0, **config}  # older checkpoints say nothing of it
        sizes = Sizes(**{field: int(known[field]) for field in Sizes.__slots__})
        digest = str(config["sha256"])
        plans = _read_json(folder / "plans.json")
        catalogue = replace(
            PlanCatalogue.parse(sizes.encoder_layers, plans),
            selector=load_selector(folder, sizes.encoder_layers),
        )
        if (folder / "card.json").is_file():
            catalogue = catalogue.with_card(_read_json(folder / "card.json"))
    except (KeyError, TypeError, ValueError, AttributeError, PlanInvalid) as error:
        raise CheckpointError(f"expected a checkpoint in {folder.name!r}, got {error}") from error
    decoding = folder / "decoding.json"
    found = _read_json(decoding) if decoding.exists() else {}
    return CheckpointFolder(folder.resolve().name, folder, sizes, catalogue, found, digest)


def _tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    with cast("Any", safe_open(str(path), framework="np")) as opened:
        names = cast("list[str]", opened.keys())
        return {name: opened.get_tensor(name) for name in names}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"expected JSON in {path.name!r}, got {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"expected an object in {path.name!r}, got {type(values).__name__}")
    return cast("dict[str, Any]", values)
