import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.depth import POLICIES, STRIDES, DepthPlan, PlanCatalogue
from model_store.errors import DepthRefused, DropOutOfRange, PlanInvalid, PolicyUnknown

NUM_LAYERS = 8
SLACK = 1e-9

DROPS = st.floats(0, 1, exclude_max=True)
SEEDS = st.integers(0, 1000)


@st.composite
def catalogues(draw: st.DrawFn) -> PlanCatalogue:
    num_layers = draw(st.integers(1, 12))
    row = st.lists(st.sampled_from(STRIDES), min_size=num_layers, max_size=num_layers)
    ladder = [DepthPlan(tuple(strides)) for strides in draw(st.lists(row, max_size=6))]
    kept = draw(st.lists(st.sets(st.integers(0, num_layers - 1), min_size=1), max_size=4))
    full = DepthPlan.full(num_layers)
    skip = tuple(DepthPlan.keeping(sorted(layers), num_layers) for layers in kept)
    return PlanCatalogue(num_layers, (*ladder, full), skip)


@given(catalogues(), DROPS, st.sampled_from(POLICIES), SEEDS)
def test_the_plan_chosen_is_the_deepest_within_the_budget(
    catalogue: PlanCatalogue, drop: float, policy: str, seed: int
) -> None:
    plan = catalogue.choose(drop, policy=policy, seed=seed)

    offered = [other.effective_layers for other in catalogue.plans(policy, seed)]
    budget = (1 - drop) * catalogue.num_layers + SLACK
    within = [layers for layers in offered if layers <= budget]
    assert plan.effective_layers == (max(within) if within else min(offered))


@given(catalogues(), DROPS, DROPS, st.sampled_from(POLICIES), SEEDS)
def test_a_larger_budget_never_gives_fewer_layers(
    catalogue: PlanCatalogue, one: float, other: float, policy: str, seed: int
) -> None:
    deep, shallow = (
        catalogue.choose(drop, policy=policy, seed=seed) for drop in sorted((one, other))
    )

    assert deep.effective_layers >= shallow.effective_layers


@given(catalogues(), st.sampled_from(POLICIES), SEEDS)
def test_every_policy_offers_full_depth(catalogue: PlanCatalogue, policy: str, seed: int) -> None:
    assert catalogue.choose(0.0, policy=policy, seed=seed) == DepthPlan.full(catalogue.num_layers)
    assert catalogue.deepest(policy=policy).drop == 0


@given(catalogues(), st.sampled_from(POLICIES), SEEDS)
def test_plans_come_deepest_first(catalogue: PlanCatalogue, policy: str, seed: int) -> None:
    layers = [plan.effective_layers for plan in catalogue.plans(policy, seed)]

    assert layers == sorted(layers, reverse=True)


@given(catalogues(), DROPS, DROPS, st.sampled_from(POLICIES))
def test_no_plan_drops_more_than_is_admitted(
    catalogue: PlanCatalogue, drop: float, max_drop: float, policy: str
) -> None:
    try:
        plan = catalogue.choose(drop, max_drop, policy)
    except DepthRefused:
        nearest = catalogue.choose(drop, policy=policy)
        assert drop > max_drop or nearest.drop > max_drop
    else:
        assert plan.drop <= max_drop + SLACK


def test_a_drop_above_the_limit_is_refused() -> None:
    with pytest.raises(DepthRefused, match=r"at most max_drop 0\.25, got 0\.5"):
        PlanCatalogue.untuned(NUM_LAYERS).choose(0.5, 0.25)


def test_a_plan_that_overshoots_the_limit_is_refused() -> None:
    with pytest.raises(DepthRefused, match=r"at most 0\.4, the nearest .*'ladder'.* drops 0\.5"):
        PlanCatalogue.untuned(NUM_LAYERS).choose(0.3, 0.4)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.0, -1.0, -0.01, 1.5])
@pytest.mark.parametrize("name", ["drop", "max_drop"])
def test_what_is_no_share_is_refused_with_the_range(name: str, value: float) -> None:
    drop, max_drop = (value, 0.5) if name == "drop" else (0.0, value)

    with pytest.raises(DropOutOfRange, match=rf"expected {name} in \[0, 1\), got"):
        PlanCatalogue.untuned(NUM_LAYERS).choose(drop, max_drop)


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PolicyUnknown, match=r"expected a policy out of ladder, .*got 'deepest'"):
        PlanCatalogue.untuned(NUM_LAYERS).choose(0.5, policy="deepest")


@given(DROPS, SEEDS)
def test_random_layers_depend_on_the_seed_alone(drop: float, seed: int) -> None:
    catalogue = PlanCatalogue.untuned(NUM_LAYERS)

    assert catalogue.choose(drop, policy="random-k", seed=seed) == catalogue.choose(
        drop, policy="random-k", seed=seed
    )


def test_seeds_draw_different_layers() -> None:
    catalogue = PlanCatalogue.untuned(NUM_LAYERS)

    drawn = {catalogue.choose(0.5, policy="random-k", seed=seed) for seed in range(20)}

    assert len(drawn) > 10


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("ladder", "2,2,2,2,2,2,2,2"),
        ("uniform", "2,2,2,2,2,2,2,2"),
        ("skip", "1,1,1,1,0,0,0,0"),
        ("first-k", "1,1,1,1,0,0,0,0"),
        ("every-other", "1,0,1,0,1,0,1,0"),
    ],
)
def test_half_the_depth_of_an_untuned_model(policy: str, expected: str) -> None:
    assert str(PlanCatalogue.untuned(NUM_LAYERS).choose(0.5, policy=policy)) == expected


@given(st.integers(1, 12), st.data())
def test_every_other_keeps_as_many_layers_as_asked_for(
    num_layers: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, num_layers))

    plan = PlanCatalogue.untuned(num_layers).plans("every-other")[num_layers - kept]

    assert plan.effective_layers == kept
    assert plan.strides[0] == 1


def test_rounding_does_not_cost_a_layer() -> None:
    # (1 - 0.9) * 10 is 0.9999999999999998.
    assert PlanCatalogue.untuned(10).choose(0.9, policy="first-k").effective_layers == 1
    assert PlanCatalogue.untuned(10).choose(0.7, policy="first-k").effective_layers == 3


@pytest.mark.parametrize(
    ("ladder", "skip", "message"),
    [
        (("1,1,1",), (), "expected 2 strides, got '1,1,1'"),
        (("1,1",), ("1",), "expected 2 strides, got '1'"),
        (("1,1", "0,1"), (), "a ladder of strides alone"),
        (("2,2",), (), "the full plan on the ladder"),
    ],
)
def test_a_catalogue_that_does_not_fit_its_model_is_refused(
    ladder: tuple[str, ...], skip: tuple[str, ...], message: str
) -> None:
    with pytest.raises(PlanInvalid, match=message):
        PlanCatalogue(
            2,
            tuple(DepthPlan.parse(text) for text in ladder),
            tuple(DepthPlan.parse(text) for text in skip),
        )
