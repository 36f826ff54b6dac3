"""A training run as one TOML file: unknown keys are refused, the resolved values saved beside it."""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from model_store.depth import MAX_STRIDE, STRIDES, DepthPlan
from model_store.errors import PlanInvalid, RunConfigError

Normalisation = Literal["token", "utterance"]
"""Mean over tokens (or frames), or sum over them divided by the utterances, as `batchmean` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource:
    """One way of drawing depth plans, and how often.

    Args:
        kind: `fixed` (the plan given), `full` (every layer), `strides` (each layer's stride drawn
            from `strides`), `skip` (keep `kept` layers at random), `bernoulli` (each layer kept with
            `keep`, drawn again while none is: the papers' way).
        weight, weight_end: share of the draws at the start and the end of the run.

    Raises:
        RunConfigError: what its kind draws from is missing or no stride.
    """

    kind: Literal["fixed", "full", "strides", "skip", "bernoulli"]
    weight: float
    weight_end: float | None = None
    plan: str = ""
    strides: tuple[int, ...] = (1, 2, 4, 8)
    kept: tuple[int, ...] = ()
    keep: float = 0.5

    def __post_init__(self) -> None:
        if self.kind == "fixed":
            try:
                DepthPlan.parse(self.plan)
            except PlanInvalid as error:
                raise RunConfigError(f"expected a plan of a fixed source: {error}") from error
        if self.kind == "strides" and not (self.strides and set(self.strides) <= set(STRIDES)):
            raise RunConfigError(f"expected strides out of {STRIDES}, got {self.strides}")
        if self.kind == "skip" and not (self.kept and min(self.kept) > 0):
            raise RunConfigError(f"expected numbers of kept layers above 0, got {self.kept}")
        if self.kind == "bernoulli" and not 0 < self.keep <= 1:
            raise RunConfigError(f"expected keep in (0, 1], got {self.keep:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """Plans, masks and switches of a step.

    Args:
        plans: where plans come from.
        full_context: share of the steps without a chunk mask.
        chunk_frames: masks of the other steps, equally often.
        switch: share of the masked steps whose strides change at random chunk boundaries.
        most_switches: changes in one utterance.

    Raises:
        RunConfigError: no source of plans, or a chunk that a group of frames would straddle.
    """

    plans: tuple[PlanSource, ...]
    full_context: float = 0.4
    chunk_frames: tuple[int, ...] = (16, 24, 48)
    switch: float = 0.3
    most_switches: int = 3

    def __post_init__(self) -> None:
        if not self.plans:
            raise RunConfigError("expected sampling.plans, got none")
        if not self.chunk_frames or any(chunk % MAX_STRIDE for chunk in self.chunk_frames):
            raise RunConfigError(
                f"expected chunk_frames in multiples of {MAX_STRIDE}, got {self.chunk_frames}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the losses; zero switches one off.

    Args:
        task: cross-entropy of the text.
        end: cross-entropy of the end token, beside its part in the others.
        kl: KL(reference || student) on the output posteriors.
        features: squared error of the encoder output over the reference's variance.
        features_of: `frames` as the encoder gives them, or `memory`, pooled as the decoder sees them:
            what lies between the pooled frames then costs nothing.
        kl_per, task_per, features_per: what the sums are divided by.
        kl_temperature: softens both sides of the KL, which is then taken over the reference's
            likeliest tokens alone and weighed by its square (Hinton et al., arXiv 1503.02531).
        exits: numbers of layers after which the text is read out too, each with its own norm; the
            losses of all exits and of the last layer are added up (Wright et al., arXiv 2309.09546).
        exit_task: weight of each exit's own task beside the last layer's; 1 = their plain sum.
        exit_kl: KL(last layer || exit), by which the network teaches its own exits.

    Raises:
        RunConfigError: a temperature of 0, exits that do not rise from 1, or features compared at
            exits, which nobody defined.
    """

    task: float = 0.1
    end: float = 0.05
    kl: float = 0.5
    features: float = 1.0
    kl_per: Normalisation = "token"
    task_per: Normalisation = "token"
    features_per: Normalisation = "token"
    features_of: Literal["frames", "memory"] = "frames"
    kl_temperature: float = 1.0
    exits: tuple[int, ...] = ()
    exit_kl: float = 0.0
    exit_task: float = 1.0

    def __post_init__(self) -> None:
        if self.kl_temperature <= 0:
            raise RunConfigError(f"expected kl_temperature above 0, got {self.kl_temperature:g}")
        if list(self.exits) != sorted({layers for layers in self.exits if layers > 0}):
            raise RunConfigError(f"expected exits rising from 1, got {list(self.exits)}")
        if self.exits and self.features:
            raise RunConfigError("expected loss.features = 0 beside exits, got more")


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """What is done to the student's audio: shares of the utterances, and ranges to draw from.

    Args:
        room: with a room's reverberation.
        noise: with recorded noise, at `noise_db` of signal to noise.
        babble: with another voice, at `babble_db`.
        microphone: with a tilted spectrum.
        telephone: in the telephone's band and 8-bit mu-law.
        gain_db: range of the level change.
    """

    room: float = 0.0
    noise: float = 0.3
    noise_db: tuple[float, ...] = (5.0, 25.0)
    babble: float = 0.0
    babble_db: tuple[float, ...] = (8.0, 25.0)
    microphone: float = 0.0
    telephone: float = 0.0
    gain_db: tuple[float, ...] = (-12.0, 6.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What the student hears.

    Args:
        weights: how often a corpus is heard in an epoch, by name; others once.
        batch_s: seconds of audio in a step.
        augment: what is done to the audio.
        cut: share of the utterances cut at a random point.
        cut_margin_s: tokens that end later than this before the cut are not asked for.
    """

    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    batch_s: float = 20.0
    augment: AugmentConfig = AugmentConfig()
    cut: float = 0.2
    cut_margin_s: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserConfig:
    """AdamW with warm-up and decay; rates by group of parameters.

    Args:
        decay: `cosine` to zero, or `noam`: by the inverse root of the step, the peak after warm-up.
        decoder_parts: `cross` leaves what the decoder knows of language as it is: little text is
            soon learned by heart.
    """

    steps: int
    warmup_steps: int = 100
    layers: float = 1e-4
    decoder: float = 2e-5
    decoder_parts: Literal["all", "cross"] = "all"
    norms: float = 5e-4
    bypass: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    decay: Literal["cosine", "noam"] = "cosine"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorConfig:
    """The selector of layers, for `recipes.train_selector`; the plans drawn say what it may spend.

    Args:
        mode: layers run or are `skip`ped, or each at one of the `strides`.
        model: `frozen`, or trained `joint`ly at the optimiser's other rates.
        gumbel: noise on the scores, so that other plans are tried.
        first_chunk: share of the steps in which it hears the first chunk alone.
        rate: of the selector's own weights.
    """

    mode: Literal["skip", "strides"] = "skip"
    model: Literal["frozen", "joint"] = "frozen"
    gumbel: bool = False
    first_chunk: float = 0.5
    rate: float = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """One run.

    Args:
        seed: of every draw.
        report_steps: steps between two lines of the log.
        evaluate_steps: steps between two word error rates by depth.
        save_s: seconds between two checkpoints.
        encoder: the layers begin as `given`, which is how the teacher's are, or from `scratch`.
        keep_layers: of the encoder, the first ones: a static model; 0 for all.
        selector: of layers, where one is trained.
    """

    seed: int
    sampling: SamplingConfig
    optimiser: OptimiserConfig
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    report_steps: int = 50
    evaluate_steps: int = 600
    save_s: float = 600.0
    encoder: Literal["given", "scratch"] = "given"
    keep_layers: int = 0
    selector: SelectorConfig = SelectorConfig()


T = TypeVar("T")


def load_run(path: Path) -> RunConfig:
    """Read a run's TOML.

    Raises:
        RunConfigError: the file is no TOML; a key is unknown, missing or of the wrong kind.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunConfigError(f"expected TOML in {path.name!r}: {error}") from error
    return from_table(RunConfig, table, path.name)


def from_table(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Make a dataclass of a TOML table, or of what `to_table` gave; tables inside it too."""
    hints = get_type_hints(kind)
    unknown = sorted(set(table) - set(hints))
    if unknown:
        raise RunConfigError(f"expected in {where} only {sorted(hints)}, got {unknown[0]!r}")
    values = {
        name: _value(hints[name], value, f"{where}.{name}")
        for name, value in table.items()
        if value is not None  # JSON's word for a key that TOML leaves out
    }
    try:
        return kind(**values)
    except TypeError as error:
        raise RunConfigError(f"expected in {where} every required key: {error}") from error


def to_table(run: RunConfig) -> dict[str, Any]:
    """Give the resolved values as plain JSON."""
    return dataclasses.asdict(run)


def _value(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401, PLR0911 TOML in, any field out
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return from_table(hint, value, where)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(inner[0], item, where) for item in value)
    if origin is Mapping and isinstance(value, dict):
        return {key: _value(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is Literal and value in inner:
        return value
    # A bool is an int to Python, and to nobody who writes a configuration.
    if hint in {float, float | None} and type(value) in {int, float}:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise RunConfigError(f"expected {where} of kind {hint}, got {value!r}")
