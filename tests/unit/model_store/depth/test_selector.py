"""The selector keeps its budget to the unit, hears its input, and costs next to nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.backbones.moonshine import MoonshineConfig
from model_store.depth import STRIDES, DepthPlan, DepthSchedule
from model_store.depth.selector import (
    BANDS,
    MODES,
    NUM_FEATURES,
    SKIPS,
    UNITS,
    Selector,
    best_plan,
    mel_bands,
    pooled_features,
    reachable_units,
    units_of,
)
from model_store.errors import PlanInvalid
from model_store.flops import encoder_flops
from model_store.registry.sizes import model_sizes

LAYERS = 8
BASE = MoonshineConfig(
    dim=416, inner_dim=1664, num_heads=8, encoder_layers=LAYERS, decoder_layers=8, vocabulary=32_768,
    front_end_rank=256, memory_pool=4, bypass_rank=64,
)  # fmt: skip


def selector(mode: str = "skip", layers: int = LAYERS, seed: int = 0) -> Selector:
    draw = np.random.default_rng(seed)
    options, hidden = len(MODES[mode]), 64
    weights = {
        "shift_F": np.zeros(NUM_FEATURES),
        "scale_F": np.ones(NUM_FEATURES),
        "hidden_HF": draw.standard_normal((hidden, NUM_FEATURES)),
        "hidden_bias_H": draw.standard_normal(hidden),
        "score_LOH": draw.standard_normal((layers, options, hidden)),
        "score_bias_LO": draw.standard_normal((layers, options)),
    }
    return Selector.of(mode, {name: value.astype(np.float32) for name, value in weights.items()})


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))).astype(
        np.float32
    )


def brute_force(scores_LO: np.ndarray, strides: tuple[int, ...], units: int) -> float:
    """Try every plan."""
    return max(
        sum(scores_LO[layer, place] for layer, place in enumerate(places))
        for places in itertools.product(range(len(strides)), repeat=len(scores_LO))
        if sum(units_of(strides[place]) for place in places) == units
    )


@settings(deadline=None)
@given(
    st.sampled_from(sorted(MODES)), st.integers(1, 12), st.floats(0.01, 1), st.integers(0, 9_999)
)
def test_a_choice_spends_the_budget_that_plans_can_reach_and_no_more(
    mode: str, layers: int, share: float, seed: int
) -> None:
    made, budget = selector(mode, layers, seed), share * layers
    units = reachable_units(layers, made.strides, budget)

    plan = made.choose(sound(0.3, seed), budget)

    assert plan.effective_layers == units / UNITS == made.nominal(budget).effective_layers
    assert set(plan.strides) <= set(made.strides)
    smallest = 1 if mode == "skip" else layers / STRIDES[-1]
    assert plan.effective_layers <= max(budget, smallest) + 1e-9
    if mode == "skip":
        assert plan.effective_layers == max(1, int(budget + 1e-9))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(MODES)), st.integers(1, 4), st.floats(0.1, 1), st.integers(0, 9_999))
def test_no_plan_of_the_budget_scores_higher(
    mode: str, layers: int, share: float, seed: int
) -> None:
    strides = MODES[mode]
    scores_LO = np.random.default_rng(seed).standard_normal((layers, len(strides)))
    units = reachable_units(layers, strides, share * layers)

    plan = best_plan(scores_LO.astype(np.float32), strides, units)

    places = [strides.index(stride) for stride in plan.strides]
    found = sum(scores_LO[layer, place] for layer, place in enumerate(places))
    assert found == pytest.approx(brute_force(scores_LO, strides, units), abs=1e-5)


def test_skipping_is_top_k() -> None:
    scores_LO = np.array([[0, 3], [0, 1], [0, 2], [0, -4]], np.float32)

    assert best_plan(scores_LO, SKIPS, 2 * UNITS) == DepthPlan((1, 0, 1, 0))


def test_what_is_heard_decides() -> None:
    made = selector()

    plans = {made.choose(sound(1.0, seed), 4.0) for seed in range(3)}
    others = (np.cumsum(sound(1.0)) * 0.1, sound(1.0) * 0.01)
    plans |= {made.choose(other.astype(np.float32), 4.0) for other in others}

    assert len(plans) > 1


def test_a_choice_is_the_same_each_time() -> None:
    made = selector("strides")

    assert made.choose(sound(0.5), 3.0) == made.choose(sound(0.5), 3.0)


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("seconds", [0.6, 2.0, 12.0, 28.0])
def test_a_choice_costs_less_than_a_hundredth_of_the_encoder(mode: str, seconds: float) -> None:
    from model_store.backbones.moonshine import Moonshine  # sizes alone are read of it

    samples = round(16_000 * seconds)
    import torch

    with torch.device("meta"):
        sizes = model_sizes(Moonshine(BASE))
    whole = encoder_flops(sizes, DepthSchedule.constant(DepthPlan.full(LAYERS)), samples)

    assert 0 < selector(mode).flops(samples) < 0.01 * whole


def test_nothing_at_all_can_be_heard() -> None:
    made = selector()

    assert made.choose(np.zeros(0, np.float32), 4.0).effective_layers == 4
    assert np.isfinite(pooled_features(np.zeros(0, np.float32))).all()


def test_bands_cover_the_spectrum_once() -> None:
    weights_MK = mel_bands()

    assert weights_MK.shape[0] == BANDS
    assert (weights_MK.sum(0)[2:-2] > 0).all()
    assert weights_MK.max() <= 1


def test_a_tone_is_loudest_in_its_own_band() -> None:
    seconds = np.arange(16_000) / 16_000
    means = [
        pooled_features(np.sin(2 * np.pi * hz * seconds).astype(np.float32))[:BANDS]
        for hz in (300, 1_000, 4_000)
    ]

    loudest = [int(mean.argmax()) for mean in means]
    assert loudest == sorted(set(loudest))


def test_units_that_no_plan_has_are_refused() -> None:
    with pytest.raises(PlanInvalid, match="units"):
        best_plan(np.zeros((2, 2), np.float32), SKIPS, 3)


@pytest.mark.parametrize(
    ("mode", "broken"),
    [("skip", {"hidden_HF": np.zeros((64, 3))}), ("softly", {}), ("strides", {})],
)
def test_weights_that_do_not_belong_together_are_refused(
    mode: str, broken: dict[str, np.ndarray]
) -> None:
    made = selector()
    weights = {
        name: getattr(made, name)
        for name in (
            "shift_F",
            "scale_F",
            "hidden_HF",
            "hidden_bias_H",
            "score_LOH",
            "score_bias_LO",
        )
    }

    with pytest.raises(PlanInvalid):
        Selector.of(mode, weights | broken)


def test_a_missing_weight_is_named() -> None:
    with pytest.raises(PlanInvalid, match="shift_F"):
        Selector.of("skip", {})
