"""The input-driven policy: a small network hears an utterance's spectrum and picks its layers.

    samples -> 40 log-mel bands every 20 ms -> mean and deviation over time, and the budget
            -> two layers of weights -> a score per layer and stride -> the best plan of that budget

The budget is kept exactly: of all plans with as many effective layers as the budget reaches, the one
with the largest sum of scores. With the strides (0, 1) that is top-k over layers; with (1, 2, 4, 8)
every layer runs, and the selector says how often. Needs numpy alone, so that any engine can ask it.

Dimensions: S = samples, N = spectrum frames, M = mel bands, F = features, H = hidden channels,
L = layers, O = strides to pick from.

Source: Hannan, Falavigna, Brutti, Input-conditioned Layer Dropping, arXiv 2507.07954, and the global
gate predictor of Peng, Lee, Watanabe, I3D, arXiv 2303.07624; what both leave open was chosen here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from model_store.depth.plan import STRIDES, TOLERANCE, DepthPlan
from model_store.errors import PlanInvalid

Floats = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 400
HOP_SAMPLES = 320
FFT_SAMPLES = 512
BANDS = 40
NUM_FEATURES = 2 * BANDS + 1
"""Mean and deviation over time of every band, and the budget over all layers."""

SKIPS = (0, 1)
MODES: Mapping[str, tuple[int, ...]] = {"skip": SKIPS, "strides": STRIDES}
"""What a selector picks from, by name."""

UNITS = STRIDES[-1]
"""Units of one layer at every frame; a layer at stride r takes `UNITS / r`, a skipped one none."""

FIRST_CHUNK_SAMPLES = 9_600
"""What a stream's selector hears before it picks: 0.6 s, as much as a chunk of 24 frames reads."""

_UNREACHABLE = -1e30


@dataclass(frozen=True, slots=True)
class Selector:
    """Weights of a trained selector.

    Args:
        mode: one of `MODES`.
        shift_F, scale_F: the features are taken minus the one, times the other.
        hidden_HF, hidden_bias_H: the first layer, before a ReLU.
        score_LOH, score_bias_LO: the second.

    Raises:
        PlanInvalid: no such mode, or the sizes do not belong together.
    """

    mode: str
    shift_F: Floats
    scale_F: Floats
    hidden_HF: Floats
    hidden_bias_H: Floats
    score_LOH: Floats
    score_bias_LO: Floats

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise PlanInvalid(f"expected a selector of {' or '.join(MODES)}, got {self.mode!r}")
        layers, hidden = self.score_LOH.shape[0], self.hidden_HF.shape[0]
        expected = {
            "shift_F": (NUM_FEATURES,),
            "scale_F": (NUM_FEATURES,),
            "hidden_HF": (hidden, NUM_FEATURES),
            "hidden_bias_H": (hidden,),
            "score_LOH": (layers, len(self.strides), hidden),
            "score_bias_LO": (layers, len(self.strides)),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise PlanInvalid(
                    f"expected {name} of a selector of sizes {shape}, "
                    f"got {getattr(self, name).shape}"
                )

    @classmethod
    def of(cls, mode: str, weights: Mapping[str, Floats]) -> "Selector":
        """Make a selector of arrays by name.

        Raises:
            PlanInvalid: one is missing, or they do not belong together.
        """
        names = [field.name for field in fields(cls)][1:]
        missing = [name for name in names if name not in weights]
        if missing:
            raise PlanInvalid(f"expected weights of a selector, got none called {missing[0]!r}")
        return cls(mode, *(np.asarray(weights[name], np.float32) for name in names))

    @property
    def strides(self) -> tuple[int, ...]:
        """What each layer may run at."""
        return MODES[self.mode]

    @property
    def num_layers(self) -> int:
        """Layers that it picks for."""
        return self.score_LOH.shape[0]

    def choose(self, samples_S: Floats, budget: float) -> DepthPlan:
        """Pick the plan of an utterance, or of what is there of it.

        Args:
            samples_S: mono, [-1, 1], 16 kHz; any number.
            budget: effective layers that may be spent.
        """
        units = reachable_units(self.num_layers, self.strides, budget)
        return best_plan(self.scores(samples_S, budget), self.strides, units)

    def nominal(self, budget: float) -> DepthPlan:
        """Give a plan of the same effective layers for what is not heard yet."""
        units = reachable_units(self.num_layers, self.strides, budget)
        even_LO = np.zeros((self.num_layers, len(self.strides)), np.float32)
        return best_plan(even_LO, self.strides, units)

    def scores(self, samples_S: Floats, budget: float) -> Floats:
        """Score every stride of every layer, (L, O)."""
        feature_F = np.append(pooled_features(samples_S), np.float32(budget / self.num_layers))
        hidden_H = self.hidden_HF @ ((feature_F - self.shift_F) * self.scale_F)
        hidden_H = np.maximum(hidden_H + self.hidden_bias_H, 0)
        return self.score_LOH @ hidden_H + self.score_bias_LO

    def flops(self, num_samples: int) -> int:
        """Operations of a choice: Fourier transforms (5 n log2 n), bands and weights; 2 a multiply-add."""
        frames = num_spectrum_frames(num_samples)
        transform = 5 * FFT_SAMPLES * (FFT_SAMPLES.bit_length() - 1)
        bands = 2 * (FFT_SAMPLES // 2 + 1) * BANDS
        weights = 2 * (self.hidden_HF.size + self.score_LOH.size)
        return frames * (transform + bands) + weights


def num_spectrum_frames(num_samples: int) -> int:
    """Windows that fit, or one that silence completes."""
    return 1 + max(0, num_samples - WINDOW_SAMPLES) // HOP_SAMPLES


def pooled_features(samples_S: Floats) -> Floats:
    """Give mean and deviation over time of the log-mel bands, (2 M,)."""
    frames = num_spectrum_frames(len(samples_S))
    missing = max(0, WINDOW_SAMPLES - len(samples_S))
    padded_S = np.pad(samples_S, (0, missing)).astype(np.float32)
    windows_NW = np.lib.stride_tricks.sliding_window_view(padded_S, WINDOW_SAMPLES)
    windows_NW = windows_NW[::HOP_SAMPLES][:frames] * np.hanning(WINDOW_SAMPLES)
    power_NK = np.abs(np.fft.rfft(windows_NW, FFT_SAMPLES)) ** 2
    bands_NM = np.log(power_NK @ mel_bands().T + 1e-6)
    return np.concatenate([bands_NM.mean(0), bands_NM.std(0)]).astype(np.float32)


def mel_bands() -> npt.NDArray[np.float64]:
    """Triangles between points evenly spaced in mel (HTK), from 0 Hz to half the rate, (M, K)."""
    top = 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1)
    rising = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


def units_of(stride: int) -> int:
    """Units that a layer at a stride takes of the budget."""
    return UNITS // stride if stride else 0


def reachable_units(num_layers: int, strides: Sequence[int], budget: float) -> int:
    """Give the most units that a plan can have within a budget; the fewest where none is within.

    Args:
        num_layers: of the plan.
        strides: what each may run at.
        budget: effective layers.
    """
    reached = {0}
    for _ in range(num_layers):
        reached = {units + units_of(stride) for units in reached for stride in strides}
    running = sorted(units for units in reached if units)
    within = [units for units in running if units <= UNITS * budget + TOLERANCE]
    return within[-1] if within else running[0]


def best_plan(scores_LO: Floats, strides: Sequence[int], units: int) -> DepthPlan:
    """Give the plan of exactly so many units with the largest sum of scores.

    Args:
        scores_LO: by layer and stride; of equal sums the one with the smaller strides first wins.
        strides: what the columns stand for.
        units: some plan has as many, see `reachable_units`.

    Raises:
        PlanInvalid: no plan has so many units.
    """
    num_layers = len(scores_LO)
    best_LU = np.full((num_layers + 1, units + 1), _UNREACHABLE)
    best_LU[num_layers, 0] = 0.0
    for layer in reversed(range(num_layers)):
        for place, stride in enumerate(strides):
            cost = units_of(stride)
            if cost <= units:
                gained_U = best_LU[layer + 1, : units + 1 - cost] + float(scores_LO[layer, place])
                best_LU[layer, cost:] = np.maximum(best_LU[layer, cost:], gained_U)
    if best_LU[0, units] <= _UNREACHABLE / 2:
        raise PlanInvalid(f"expected units that strides {tuple(strides)} reach, got {units}")
    chosen: list[int] = []
    left = units
    by_cost = sorted(range(len(strides)), key=lambda place: -units_of(strides[place]))
    for layer in range(num_layers):
        for place in by_cost:
            rest = left - units_of(strides[place])
            if rest >= 0 and np.isclose(
                best_LU[layer + 1, rest] + float(scores_LO[layer, place]),
                best_LU[layer, left],
                rtol=0,
                atol=1e-9,
            ):
                chosen.append(strides[place])
                left = rest
                break
    return DepthPlan(tuple(chosen))
