"""Moonshine Streaming while the audio comes: frames equal to the whole utterance's, in bounded memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from model_store.backbones.moonshine_streaming import MoonshineStreaming
from model_store.backbones.moonshine_streaming_live import LiveEncoder
from model_store.backbones.precision import to_bfloat16
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import PlanInvalid
from tests.numerics.backbones import NUM_LAYERS, encode, layers, noise
from tests.numerics.moonshine_streaming_kit import FRAME_SAMPLES, built

RATE_HZ = 16_000
TOLERANCE = 1e-5
STRIDES = st.tuples(*[st.sampled_from([1, 2, 4, 8])] * NUM_LAYERS)
ANY_PLAN = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * NUM_LAYERS).filter(any)
CUTS = st.lists(st.integers(0, 30_000), max_size=12).map(sorted)


@pytest.fixture(scope="module")
def model() -> MoonshineStreaming:
    return built()


def offline(model: MoonshineStreaming, samples_S: Tensor, schedule: DepthSchedule) -> Tensor:
    encoded = encode(model, samples_S[None], torch.tensor([len(samples_S)]), schedule)
    return encoded.states_BTD[0]


def pieces(samples_S: Tensor, sizes: int | list[int]) -> list[Tensor]:
    return list(torch.split(samples_S, sizes))


@settings(max_examples=60)
@given(plan=ANY_PLAN, length=st.integers(0, 30_000), cuts=CUTS)
def test_any_cuts_give_the_frames_of_the_whole_utterance(
    model: MoonshineStreaming, plan: tuple[int, ...], length: int, cuts: list[int]
) -> None:
    samples_S = noise(30_000)[0][0, :length]
    live = LiveEncoder(model, DepthPlan(plan))

    states = [live.push(piece_S) for piece_S in samples_S.tensor_split(cuts)]
    states.append(live.finish())

    expected_TD = offline(model, samples_S, DepthSchedule.constant(DepthPlan(plan)))
    torch.testing.assert_close(torch.cat(states), expected_TD, rtol=0, atol=TOLERANCE)


@settings(max_examples=40)
@given(
    plans=st.lists(STRIDES, min_size=2, max_size=6),
    sizes=st.lists(st.integers(0, 9_000), min_size=6, max_size=6),
)
def test_strides_that_change_on_the_way_give_the_frames_of_the_same_schedule(
    model: MoonshineStreaming, plans: list[tuple[int, ...]], sizes: list[int]
) -> None:
    samples_S = noise(sum(sizes))[0][0]
    live = LiveEncoder(model, DepthPlan(plans[0]))
    states: list[Tensor] = []

    for place, piece_S in enumerate(pieces(samples_S, sizes)):
        if 0 < place < len(plans):
            live.change(DepthPlan(plans[place]))
        states.append(live.push(piece_S))
    states.append(live.finish())

    expected_TD = offline(model, samples_S, live.schedule)
    torch.testing.assert_close(torch.cat(states), expected_TD, rtol=0, atol=TOLERANCE)


@settings(max_examples=20)
@given(kept=st.sets(st.integers(0, NUM_LAYERS - 1), min_size=1), first=STRIDES, then=STRIDES)
def test_a_skipped_layer_stays_skipped_while_others_change(
    model: MoonshineStreaming, kept: set[int], first: tuple[int, ...], then: tuple[int, ...]
) -> None:
    before, after = (
        DepthPlan(tuple(s if index in kept else 0 for index, s in enumerate(strides)))
        for strides in (first, then)
    )
    samples_S = noise(20_000)[0][0]
    live = LiveEncoder(model, before)

    states = [live.push(samples_S[:7_777])]
    live.change(after)
    states += [live.push(samples_S[7_777:]), live.finish()]

    expected_TD = offline(model, samples_S, live.schedule)
    torch.testing.assert_close(torch.cat(states), expected_TD, rtol=0, atol=TOLERANCE)


@settings(max_examples=25)
@given(plan=ANY_PLAN, frames=st.integers(1, 80))
def test_a_frame_comes_once_its_look_ahead_has_passed(
    model: MoonshineStreaming, plan: tuple[int, ...], frames: int
) -> None:
    live = LiveEncoder(model, DepthPlan(plan))
    # The last step of 5 ms of a frame is not read by it.
    samples_S = noise((frames - 1) * FRAME_SAMPLES + 80)[0][0]

    given_on = len(live.push(samples_S))

    assert frames - given_on <= model.lookahead_frames(DepthPlan(plan))
    assert given_on + len(live.finish()) == frames


@pytest.mark.parametrize("plan", ["1,1,1", "2,2,2", "4,4,4", "8,1,2", "0,4,1"])
def test_some_frame_waits_for_all_of_the_look_ahead(model: MoonshineStreaming, plan: str) -> None:
    live = LiveEncoder(model, DepthPlan.parse(plan))
    waiting: list[int] = []
    given_on = 0

    for frames in range(1, 81):
        given_on += len(live.push(noise(FRAME_SAMPLES, seed=frames)[0][0]))
        waiting.append(frames - given_on)

    assert max(waiting) == model.lookahead_frames(DepthPlan.parse(plan))


@pytest.mark.parametrize("plan", ["1,1,1", "2,4,1", "0,1,2", "8,8,8"])
def test_no_layer_runs_twice_for_a_frame(model: MoonshineStreaming, plan: str) -> None:
    live = LiveEncoder(model, DepthPlan.parse(plan))
    samples_S = noise(21_000)[0][0]
    rows = [0] * NUM_LAYERS

    def count(index: int) -> RemovableHandle:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            rows[index] += inputs[0].shape[1]

        up = layers(model)[index].block.get_submodule("up")
        return up.register_forward_hook(add)

    handles = [count(index) for index in range(NUM_LAYERS)]
    for piece_S in pieces(samples_S, 1_234):
        live.push(piece_S)
    live.finish()
    for handle in handles:
        handle.remove()

    frames = int(model.num_frames(torch.tensor(21_000)))
    assert rows == [live.schedule.num_rows(layer, frames) for layer in range(NUM_LAYERS)]


@pytest.mark.parametrize("plan", ["1,1,1", "2,2,2", "4,4,4", "1,0,0"])
def test_memory_does_not_grow(model: MoonshineStreaming, plan: str) -> None:
    live = LiveEncoder(model, DepthPlan.parse(plan))
    held: list[int] = []

    for second in range(12):
        for piece_S in pieces(noise(RATE_HZ, seed=second)[0][0], 3_840):
            live.push(piece_S)
        held.append(live.num_bytes)

    # Where the last group is cut differs from piece to piece, and is the same every two seconds.
    assert held[2:] == held[:-2]


def test_memory_does_not_depend_on_how_much_is_pushed_at_once(model: MoonshineStreaming) -> None:
    samples_S = noise(3 * RATE_HZ)[0][0]
    at_once, bit_by_bit = (LiveEncoder(model, DepthPlan((1, 2, 1))) for _ in range(2))

    at_once.push(samples_S)
    for piece_S in pieces(samples_S, 160):
        bit_by_bit.push(piece_S)

    assert at_once.num_bytes == bit_by_bit.num_bytes


def test_depth_given_up_is_memory_given_back(model: MoonshineStreaming) -> None:
    held: list[int] = []
    for stride in (1, 2, 4):
        live = LiveEncoder(model, DepthPlan((stride,) * NUM_LAYERS))
        live.push(noise(2 * RATE_HZ)[0][0])
        held.append(live.num_bytes)

    assert held == sorted(held, reverse=True)
    assert held[2] < held[0]


def test_a_change_holds_from_the_next_whole_group(model: MoonshineStreaming) -> None:
    live = LiveEncoder(model, DepthPlan((1, 1, 1)))

    assert live.change(DepthPlan((2, 2, 2))) == 0
    live.push(noise(9 * FRAME_SAMPLES)[0][0])
    assert live.change(DepthPlan((4, 4, 4))) == 16
    assert live.change(DepthPlan((1, 2, 4))) == 16

    assert live.schedule == DepthSchedule(((0, DepthPlan((2, 2, 2))), (16, DepthPlan((1, 2, 4)))))


def test_a_skipped_layer_cannot_come_back(model: MoonshineStreaming) -> None:
    live = LiveEncoder(model, DepthPlan((1, 0, 1)))
    live.push(noise(9 * FRAME_SAMPLES)[0][0])

    with pytest.raises(PlanInvalid, match="skip the same layers"):
        live.change(DepthPlan((1, 1, 1)))

    assert live.schedule == DepthSchedule.constant(DepthPlan((1, 0, 1)))


def test_a_plan_of_another_depth_is_refused(model: MoonshineStreaming) -> None:
    with pytest.raises(PlanInvalid, match="expected 3 strides, got 2"):
        LiveEncoder(model, DepthPlan((1, 1)))
    with pytest.raises(PlanInvalid, match="expected 3 strides, got 4"):
        LiveEncoder(model, DepthPlan((1, 1, 1))).change(DepthPlan((1, 1, 1, 1)))


def test_matrices_in_bfloat16_stream_as_well() -> None:
    model = built()
    to_bfloat16(model)
    plan, samples_S = DepthPlan((1, 2, 1)), noise(9_000)[0][0]
    live = LiveEncoder(model, plan)

    states_TD = torch.cat(
        [live.push(samples_S[:5_001]), live.push(samples_S[5_001:]), live.finish()]
    )

    expected_TD = offline(model, samples_S, DepthSchedule.constant(plan))
    torch.testing.assert_close(states_TD, expected_TD, rtol=0, atol=0.1)
