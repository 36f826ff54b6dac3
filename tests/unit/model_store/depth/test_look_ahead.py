"""How far behind a chunk's edge layers answer, and what waits for the next chunk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.depth import (
    DepthPlan,
    Progress,
    check_look_ahead,
    frames_behind,
)
from model_store.errors import PlanInvalid

LAYERS = 8
CHUNK = 24
STRIDES = st.tuples(*[st.sampled_from([1, 2, 4, 8])] * LAYERS)
PLANS = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * LAYERS).filter(any).map(DepthPlan)
LOOK_AHEADS = st.sampled_from([0, 8, 16, 24])


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("1,1,1,1,1,1,1,1", (0, 1, 2, 3, 4, 5, 6, 7, 8)),
        ("1,2,2,2,2,2,4,4", (0, 1, 2, 4, 4, 6, 6, 8, 8)),
        ("4,4,4,4,4,4,4,4", (0, 4, 4, 4, 4, 8, 8, 8, 8)),
        ("8,1,1,1,1,1,1,1", (0, 8, 8, 8, 8, 8, 8, 8, 8)),
        ("1,0,0,1,1,0,1,1", (0, 1, 2, 3, 4, 5, 6, 7, 8)),
    ],
)
def test_each_layer_stays_whole_groups_behind(plan: str, expected: tuple[int, ...]) -> None:
    assert frames_behind(DepthPlan.parse(plan), 8) == expected


@given(plan=PLANS, look_ahead=LOOK_AHEADS)
def test_layers_fall_behind_one_after_the_other_up_to_the_look_ahead(
    plan: DepthPlan, look_ahead: int
) -> None:
    behind = frames_behind(plan, look_ahead)

    assert list(behind) == sorted(behind)
    assert (behind[0], behind[-1]) == (0, look_ahead)
    for stride, frames in zip(plan.strides, behind[1:], strict=True):
        assert stride == 0 or frames % stride == 0


@pytest.mark.parametrize(("look_ahead", "chunk"), [(-8, 24), (4, 24), (32, 24), (16, 8)])
def test_a_look_ahead_that_chunks_cannot_have_is_refused(look_ahead: int, chunk: int) -> None:
    with pytest.raises(PlanInvalid, match=f"up to a chunk of {chunk}, got {look_ahead}"):
        check_look_ahead(look_ahead, chunk)


@given(
    plans=st.lists(STRIDES.map(DepthPlan), min_size=1, max_size=5),
    rest=st.integers(0, CHUNK - 1),
    look_ahead=LOOK_AHEADS,
)
def test_every_layer_hears_and_answers_every_frame_once_and_in_order(
    plans: list[DepthPlan], rest: int, look_ahead: int
) -> None:
    progress = Progress(look_ahead)
    turns = [progress.advance(plan, CHUNK, ended=False) for plan in plans]
    assert progress.num_final_frames == CHUNK * len(plans) - look_ahead
    if rest:
        turns.append(progress.advance(plans[-1], rest, ended=True))
    elif progress.waits:
        turns.append(progress.finish())

    total = CHUNK * len(plans) + rest
    assert progress.num_final_frames == total
    assert not progress.waits
    for layer in range(LAYERS):
        own = [turn[layer] for turn in turns]
        for parts in ([p for t in own for p in t.heard], [p for t in own for p in t.answered]):
            assert [p.start_frame for p in parts] == [0, *(p.end_frame for p in parts)][:-1]
            assert parts[-1].end_frame == total
            # A frame's stride is that of the chunk it lies in, whenever its turn comes.
            for part in parts:
                index = min(part.start_frame // CHUNK, len(plans) - 1)
                assert part.stride == plans[index].strides[layer]


@given(plan=PLANS, look_ahead=LOOK_AHEADS)
def test_nothing_is_answered_before_it_was_heard_and_given_on_below(
    plan: DepthPlan, look_ahead: int
) -> None:
    progress = Progress(look_ahead)
    for _ in range(4):
        progress.advance(plan, CHUNK, ended=False)
        given_on = [progress.edge, *progress.answered]
        for below, heard, answered in zip(
            given_on[:-1], progress.heard, progress.answered, strict=True
        ):
            assert answered <= heard <= below


def test_rows_are_counted_by_stride() -> None:
    progress = Progress(8)

    (first, *_), *_ = [progress.advance(DepthPlan.parse("2,2,4,1,1,1,1,1"), 24, ended=False)]

    assert first.heard_rows == 12
    assert first.answered_rows == 11
