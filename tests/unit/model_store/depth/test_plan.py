from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.depth import MAX_STRIDE, STRIDES, DepthPlan, DepthSchedule
from model_store.errors import PlanInvalid

NUM_LAYERS = 4


def plans(
    num_layers: int = NUM_LAYERS, strides: tuple[int, ...] = (0, *STRIDES)
) -> st.SearchStrategy[DepthPlan]:
    rows = st.lists(st.sampled_from(strides), min_size=num_layers, max_size=num_layers)
    return rows.filter(any).map(lambda row: DepthPlan(tuple(row)))


@st.composite
def schedules(draw: st.DrawFn) -> DepthSchedule:
    """Plans that skip the same layers, from frames that are multiples of the largest stride."""
    skipped = draw(st.sets(st.integers(0, NUM_LAYERS - 1), max_size=NUM_LAYERS - 1))
    later = draw(st.sets(st.integers(1, 6), max_size=3))
    stride = st.sampled_from(STRIDES)
    return DepthSchedule(
        tuple(
            (
                start * MAX_STRIDE,
                DepthPlan(
                    tuple(0 if layer in skipped else draw(stride) for layer in range(NUM_LAYERS))
                ),
            )
            for start in [0, *sorted(later)]
        )
    )


@given(plans())
def test_a_plan_reads_back_as_it_was_written(plan: DepthPlan) -> None:
    assert DepthPlan.parse(str(plan)) == plan


@given(plans())
def test_effective_layers_and_drop_say_the_same(plan: DepthPlan) -> None:
    assert 0 < plan.effective_layers <= plan.num_layers
    assert 0 <= plan.drop < 1
    assert plan.effective_layers == pytest.approx((1 - plan.drop) * plan.num_layers)


@given(plans())
def test_a_plan_without_skips_runs_every_layer(plan: DepthPlan) -> None:
    assert plan.skips == (0 in plan.strides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,3,1,1", "strides out of 0, 1, 2, 4, 8, got 3"),
        ("1,-1", "strides out of 0, 1, 2, 4, 8, got -1"),
        ("0,0", "at least one layer, got '0,0'"),
        ("1,,1", "strides between commas, got '1,,1'"),
        ("deep", "strides between commas, got 'deep'"),
        ("", "strides between commas, got ''"),
    ],
)
def test_what_is_no_plan_is_refused_with_what_came(text: str, message: str) -> None:
    with pytest.raises(PlanInvalid, match=message):
        DepthPlan.parse(text)


def test_the_full_plan_drops_nothing() -> None:
    assert DepthPlan.full(3) == DepthPlan((1, 1, 1))
    assert DepthPlan.full(3).drop == 0


@given(st.sets(st.integers(0, NUM_LAYERS - 1), min_size=1))
def test_keeping_layers_skips_the_others(kept: set[int]) -> None:
    plan = DepthPlan.keeping(sorted(kept), NUM_LAYERS)

    assert {index for index, stride in enumerate(plan.strides) if stride} == kept
    assert plan.effective_layers == len(kept)


@given(schedules(), st.integers(1, 60))
def test_segments_tile_the_frames(schedule: DepthSchedule, num_frames: int) -> None:
    for layer in range(NUM_LAYERS):
        segments = schedule.segments(layer, num_frames)

        assert [part.start_frame for part in segments] == [
            0,
            *(part.end_frame for part in segments[:-1]),
        ]
        assert segments[-1].end_frame == num_frames
        assert all(part.start_frame < part.end_frame for part in segments)


@given(schedules(), st.integers(1, 60))
def test_every_frame_lies_in_the_stride_of_the_plan_in_force(
    schedule: DepthSchedule, num_frames: int
) -> None:
    for layer in range(NUM_LAYERS):
        for part in schedule.segments(layer, num_frames):
            for frame in range(part.start_frame, part.end_frame):
                plan = [plan for start, plan in schedule.parts if start <= frame][-1]
                assert part.stride == plan.strides[layer]


@given(schedules(), st.integers(1, 60))
def test_neighbouring_segments_differ_in_stride(schedule: DepthSchedule, num_frames: int) -> None:
    for layer in range(NUM_LAYERS):
        strides = [part.stride for part in schedule.segments(layer, num_frames)]
        assert all(before != after for before, after in pairwise(strides))


@given(schedules(), st.integers(1, 60))
def test_a_layer_computes_one_row_for_each_group_of_frames(
    schedule: DepthSchedule, num_frames: int
) -> None:
    for layer in range(NUM_LAYERS):
        rows = 0
        for part in schedule.segments(layer, num_frames):
            groups = range(part.start_frame, part.end_frame, part.stride or num_frames)
            rows += len(groups) if part.stride else 0

        assert schedule.num_rows(layer, num_frames) == rows


@given(plans(), st.integers(1, 150))
def test_rows_of_one_plan_are_frames_over_stride_rounded_up(
    plan: DepthPlan, num_frames: int
) -> None:
    schedule = DepthSchedule.constant(plan)

    rows = [schedule.num_rows(layer, num_frames) for layer in range(NUM_LAYERS)]

    assert rows == [-(-num_frames // stride) if stride else 0 for stride in plan.strides]


FULL, HALF, SKIPPING = (DepthPlan.parse(text) for text in ("1,1,1,1", "2,2,2,2", "1,0,1,1"))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "first frames rising from 0, got \\[\\]"),
        (((8, FULL),), "rising from 0, got \\[8\\]"),
        (((0, FULL), (16, HALF), (8, FULL)), "rising from 0"),
        (((0, FULL), (0, HALF)), "rising from 0"),
        (((0, FULL), (12, HALF)), "multiples of 8, got \\[0, 12\\]"),
        (((0, FULL), (16, SKIPPING)), "plans that skip the same layers"),
        (((0, FULL), (16, DepthPlan.full(3))), "plans that skip the same layers"),
    ],
)
def test_a_schedule_that_cannot_run_is_refused(
    parts: tuple[tuple[int, DepthPlan], ...], message: str
) -> None:
    with pytest.raises(PlanInvalid, match=message):
        DepthSchedule(parts)
