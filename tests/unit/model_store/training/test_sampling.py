from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_store.depth import DepthPlan, DepthSchedule
from model_store.training.config import PlanSource, SamplingConfig
from model_store.training.sampling import DepthSampler

NUM_LAYERS = 4
DRAWS = 600

STRIDES = PlanSource(kind="strides", weight=2.0, strides=(2, 4))
SKIP = PlanSource(kind="skip", weight=1.0, kept=(1, 3))
FIXED = PlanSource(kind="fixed", weight=1.0, plan="1,1,1,1")
GATES = PlanSource(kind="bernoulli", weight=1.0, keep=0.3)


def sampler(config: SamplingConfig, seed: int = 0) -> DepthSampler:
    return DepthSampler(config, NUM_LAYERS, torch.Generator().manual_seed(seed))


def drawn(
    config: SamplingConfig, progress: float = 0.0, num_frames: int = 200
) -> list[tuple[DepthSchedule, int | None]]:
    source = sampler(config)
    return [source.draw(progress, num_frames) for _ in range(DRAWS)]


def kind_of(plan: DepthPlan) -> str:
    if plan.skips:
        return "skip"
    return "fixed" if plan == DepthPlan.full(NUM_LAYERS) else "strides"


def first_plans(config: SamplingConfig, progress: float = 0.0) -> Counter[str]:
    return Counter(kind_of(schedule.parts[0][1]) for schedule, _ in drawn(config, progress))


def test_plans_are_drawn_by_their_shares() -> None:
    found = first_plans(SamplingConfig(plans=(STRIDES, SKIP, FIXED)))

    assert found["strides"] / DRAWS == pytest.approx(0.5, abs=0.07)
    assert found["skip"] / DRAWS == pytest.approx(0.25, abs=0.07)
    assert found["fixed"] / DRAWS == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_shares_move_along_the_run(progress: float, share: float) -> None:
    fades = PlanSource(kind="fixed", plan="1,1,1,1", weight=1.0, weight_end=0.0)
    grows = PlanSource(kind="strides", strides=(2, 4), weight=0.0, weight_end=1.0)

    found = first_plans(SamplingConfig(plans=(fades, grows)), progress)

    assert found["strides"] / DRAWS == pytest.approx(share, abs=0.07)


def test_masks_are_drawn_by_their_shares() -> None:
    config = SamplingConfig(plans=(FIXED,), full_context=0.4, chunk_frames=(16, 24, 48))

    found = Counter(chunk for _, chunk in drawn(config))

    assert found[None] / DRAWS == pytest.approx(0.4, abs=0.07)
    for chunk in (16, 24, 48):
        assert found[chunk] / DRAWS == pytest.approx(0.2, abs=0.06)


def test_strides_switch_in_their_share_of_the_masked_steps() -> None:
    config = SamplingConfig(plans=(STRIDES,), full_context=0.0, switch=0.3)

    switched = sum(len(schedule.parts) > 1 for schedule, _ in drawn(config))

    assert switched / DRAWS == pytest.approx(0.3, abs=0.07)


@given(seed=st.integers(0, 9_999), num_frames=st.integers(1, 300))
def test_plans_switch_at_chunk_boundaries_and_without_skips_alone(
    seed: int, num_frames: int
) -> None:
    config = SamplingConfig(
        plans=(STRIDES, SKIP, GATES), full_context=0.2, switch=1.0, most_switches=3
    )

    schedule, chunk = sampler(config, seed).draw(0.5, num_frames)

    later = schedule.parts[1:]
    assert len(later) <= 3
    if later:
        assert chunk is not None
        assert all(start % chunk == 0 and 0 < start < num_frames for start, _ in later)
        assert not any(plan.skips for _, plan in schedule.parts)


def test_full_context_never_switches() -> None:
    config = SamplingConfig(plans=(STRIDES,), full_context=1.0, switch=1.0)

    assert all(len(schedule.parts) == 1 and chunk is None for schedule, chunk in drawn(config))


def test_a_run_of_skips_alone_never_switches() -> None:
    # All gates open is a plan without skips, and there is nothing to switch to.
    open_gates = PlanSource(kind="bernoulli", weight=1.0, keep=1.0)
    later = PlanSource(kind="strides", weight=0.0, weight_end=1.0)

    for plans in ((open_gates,), (open_gates, later)):
        found = drawn(SamplingConfig(plans=plans, full_context=0.0, switch=1.0))
        assert all(len(schedule.parts) == 1 for schedule, _ in found)


def test_as_many_layers_are_kept_as_the_source_says() -> None:
    found = Counter(s.parts[0][1].effective_layers for s, _ in drawn(SamplingConfig(plans=(SKIP,))))

    assert set(found) == {1, 3}
    assert found[1] / DRAWS == pytest.approx(0.5, abs=0.07)


def test_gates_open_at_their_rate_and_never_all_close() -> None:
    config = SamplingConfig(plans=(GATES,), full_context=1.0)

    layers = [schedule.parts[0][1].effective_layers for schedule, _ in drawn(config)]

    assert min(layers) >= 1
    # Mean of the binomial distribution without its zero.
    expected = 0.3 * NUM_LAYERS / (1 - 0.7**NUM_LAYERS)
    assert sum(layers) / DRAWS == pytest.approx(expected, abs=0.15)


def test_one_seed_gives_the_same_draws_and_another_gives_others() -> None:
    config = SamplingConfig(plans=(STRIDES, SKIP, GATES), switch=0.5)

    one, same, other = (
        [source.draw(step / 40, 150) for step in range(40)]
        for source in (sampler(config, 5), sampler(config, 5), sampler(config, 6))
    )

    assert one == same
    assert one != other
