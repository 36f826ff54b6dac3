"""The encoder chunk by chunk against the forward over whole utterances under the same mask."""

import contextlib
import dataclasses
import itertools
from collections.abc import Generator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model_store.backbones.incremental import BLOCK_ROWS, Chunk, EncoderState, IncrementalEncoder
from model_store.backbones.moonshine import Moonshine
from model_store.backbones.moonshine_stream import samples_of_frames
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import PlanInvalid
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, constant, encode, noise

STRIDES = st.sampled_from([1, 2, 4, 8])
PLANS = st.tuples(*[STRIDES] * NUM_LAYERS)
SKIPS = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * NUM_LAYERS).filter(any)
CHUNKS = st.sampled_from([16, 24, 48])
LOOK_AHEADS = st.sampled_from([0, 8, 16])
TOLERANCE = 1e-4
"""Largest difference over the states' standard deviation, which is about 1."""


@pytest.fixture(scope="module", params=["moonshine", "moonshine-factorised"])
def model(request: pytest.FixtureRequest) -> Moonshine:
    built = BACKBONES[request.param].build()
    assert isinstance(built, Moonshine)
    return built


@dataclasses.dataclass
class Stream:
    """One utterance on its way through an incremental encoder."""

    samples_S: Tensor
    plans: list[DepthPlan]
    state: EncoderState
    frames: int = 0
    states_TD: list[Tensor] = dataclasses.field(default_factory=list[Tensor])


def opened(samples_S: Tensor, plans: list[DepthPlan], dtype: torch.dtype = torch.float32) -> Stream:
    return Stream(samples_S, plans, EncoderState.begin(NUM_LAYERS, dtype))


@contextlib.contextmanager
def looking_ahead(model: Moonshine, frames: int) -> Generator[None]:
    """Have a model's chunks hear so many frames of the next one."""
    model.encoder.stack.look_ahead_frames = frames
    try:
        yield
    finally:
        model.encoder.stack.look_ahead_frames = 0


def next_chunk(model: Moonshine, stream: Stream, chunk_frames: int) -> Chunk | None:
    total = int(model.num_frames(torch.tensor(len(stream.samples_S))))
    frames = min(chunk_frames, total - stream.frames)
    if not frames:
        return None
    first, last = (samples_of_frames(n) for n in (stream.frames, stream.frames + frames))
    index = min(stream.frames // chunk_frames, len(stream.plans) - 1)
    stream.frames += frames
    return Chunk(stream.state, stream.samples_S[first:last], stream.plans[index])


@torch.inference_mode()
def streamed(model: Moonshine, streams: list[Stream], chunk_frames: int) -> list[Tensor]:
    encoder = IncrementalEncoder(model.encoder, chunk_frames)
    for stream in streams:
        stream.state.progress.look_ahead_frames = model.encoder.stack.look_ahead_frames
    while True:
        due = [(s, c) for s in streams if (c := next_chunk(model, s, chunk_frames)) is not None]
        if not due:
            last = encoder.finish([stream.state for stream in streams])
            pairs = zip(streams, last, strict=True)
            return [torch.cat([*stream.states_TD, states_TD]) for stream, states_TD in pairs]
        for chunk in (chunk for _, chunk in due):
            encoder.check(chunk.plan, chunk.state)
        for (stream, _), states_TD in zip(due, encoder.step([c for _, c in due]), strict=True):
            stream.states_TD.append(states_TD)


def offline(
    model: Moonshine, samples_S: Tensor, plans: list[DepthPlan], chunk_frames: int
) -> Tensor:
    total = int(model.num_frames(torch.tensor(len(samples_S))))
    starts = range(0, total, chunk_frames)
    parts = tuple(zip(starts, [*plans, *[plans[-1]] * len(starts)], strict=False))
    num_samples_B = torch.tensor([len(samples_S)])
    return encode(
        model, samples_S[None], num_samples_B, DepthSchedule(parts), chunk_frames
    ).states_BTD[0]


def difference(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max() / other.std())


@settings(max_examples=25)
@given(
    plans=st.lists(PLANS, min_size=1, max_size=4),
    chunk=CHUNKS,
    length=st.integers(895, 50_000),
    ahead=LOOK_AHEADS,
)
def test_chunks_at_any_strides_equal_the_whole_under_the_mask(
    model: Moonshine, plans: list[tuple[int, ...]], chunk: int, length: int, ahead: int
) -> None:
    along = [DepthPlan(plan) for plan in plans]
    samples_S = noise(length)[0][0]

    with looking_ahead(model, ahead):
        (states_TD,) = streamed(model, [opened(samples_S, along)], chunk)

        assert difference(states_TD, offline(model, samples_S, along, chunk)) < TOLERANCE


@settings(max_examples=15)
@given(plan=SKIPS, chunk=CHUNKS, length=st.integers(895, 50_000), ahead=LOOK_AHEADS)
def test_chunks_of_a_plan_that_skips_equal_the_whole_under_the_mask(
    model: Moonshine, plan: tuple[int, ...], chunk: int, length: int, ahead: int
) -> None:
    along = [DepthPlan(plan)]
    samples_S = noise(length)[0][0]

    with looking_ahead(model, ahead):
        (states_TD,) = streamed(model, [opened(samples_S, along)], chunk)

        assert difference(states_TD, offline(model, samples_S, along, chunk)) < TOLERANCE


@settings(max_examples=15)
@given(
    plans=st.lists(SKIPS, min_size=2, max_size=4),
    lengths=st.lists(st.integers(895, 40_000), min_size=4, max_size=4),
    chunk=CHUNKS,
    ahead=LOOK_AHEADS,
)
def test_streams_of_any_plans_run_together_as_each_alone(
    model: Moonshine, plans: list[tuple[int, ...]], lengths: list[int], chunk: int, ahead: int
) -> None:
    samples = [noise(length, seed=row)[0][0] for row, length in enumerate(lengths)]
    pairs = [(samples_S, [DepthPlan(p)]) for samples_S, p in zip(samples, plans, strict=False)]

    with looking_ahead(model, ahead):
        together = streamed(model, [opened(*pair) for pair in pairs], chunk)
        alone = [streamed(model, [opened(*pair)], chunk)[0] for pair in pairs]

    for states_TD, alone_TD in zip(together, alone, strict=True):
        assert difference(states_TD, alone_TD) < TOLERANCE


def test_streams_that_began_at_different_times_run_together(model: Moonshine) -> None:
    plan = [DepthPlan((1, 2, 4))]
    samples = [noise(30_000, seed=row)[0][0] for row in range(2)]
    early, late = (opened(samples_S, plan) for samples_S in samples)
    encoder = IncrementalEncoder(model.encoder, 24)
    first = next_chunk(model, early, 24)
    assert first is not None
    with torch.inference_mode():
        early.states_TD += encoder.step([first])

    together = streamed(model, [early, late], 24)

    for states_TD, samples_S in zip(together, samples, strict=True):
        assert difference(states_TD, offline(model, samples_S, plan, 24)) < TOLERANCE


def test_nothing_invented_at_a_chunks_edge_means_samples_count_exactly(model: Moonshine) -> None:
    for frames in (1, 2, 24, 25):
        needed = samples_of_frames(frames)

        assert int(model.num_frames(torch.tensor(needed))) == frames
        assert frames == 1 or int(model.num_frames(torch.tensor(needed - 1))) == frames - 1


def test_an_utterance_keeps_the_layers_it_skips(model: Moonshine) -> None:
    encoder = IncrementalEncoder(model.encoder, 24)
    stream = opened(noise(30_000)[0][0], [DepthPlan((1, 0, 2))])
    chunk = next_chunk(model, stream, 24)
    assert chunk is not None
    with torch.inference_mode():
        encoder.step([chunk])

    encoder.check(DepthPlan((4, 0, 1)), stream.state)
    with pytest.raises(PlanInvalid, match="skips what the utterance's first one does, got '1,1,2'"):
        encoder.check(DepthPlan((1, 1, 2)), stream.state)


def test_a_stride_that_a_chunk_does_not_hold_is_refused(model: Moonshine) -> None:
    encoder = IncrementalEncoder(model.encoder, 12)

    with pytest.raises(PlanInvalid, match="multiples of stride 8, got 12"):
        encoder.check(DepthPlan((1, 8, 1)), EncoderState.begin(NUM_LAYERS, torch.float32))


def test_a_plan_of_another_depth_is_refused(model: Moonshine) -> None:
    encoder = IncrementalEncoder(model.encoder, 24)

    with pytest.raises(PlanInvalid, match="expected 3 strides, got 2"):
        encoder.check(DepthPlan((1, 1)), EncoderState.begin(NUM_LAYERS, torch.float32))


def test_caches_in_half_precision_change_little(model: Moonshine) -> None:
    plan = [DepthPlan((1, 2, 1))]
    samples_S = noise(40_000)[0][0]

    (states_TD,) = streamed(model, [opened(samples_S, plan, torch.float16)], 24)

    assert 0 < difference(states_TD, offline(model, samples_S, plan, 24)) < 0.02


def test_a_cache_holds_a_row_a_stride_and_falls_with_it(model: Moonshine) -> None:
    samples_S = noise(200_000)[0][0]
    bytes_by_stride: dict[int, int] = {}
    for stride in (1, 2, 4, 8):
        stream = opened(samples_S, [DepthPlan((stride,) * NUM_LAYERS)], torch.float16)
        streamed(model, [stream], 24)
        frames = stream.frames
        rows = sum(-(-min(24, frames - start) // stride) for start in range(0, frames, 24))
        assert [store.num_rows for store in stream.state.layers] == [rows] * NUM_LAYERS
        used = 2 * 2 * model.config.dim * NUM_LAYERS * rows
        slack = 2 * 2 * model.config.dim * NUM_LAYERS * BLOCK_ROWS
        assert used <= sum(store.num_bytes for store in stream.state.layers) <= used + slack
        bytes_by_stride[stride] = stream.state.num_bytes

    assert all(
        bytes_by_stride[fine] > bytes_by_stride[coarse]
        for fine, coarse in itertools.pairwise((1, 2, 4, 8))
    )


def test_a_skipped_layer_keeps_nothing(model: Moonshine) -> None:
    stream = opened(noise(30_000)[0][0], [DepthPlan((1, 0, 2))])

    streamed(model, [stream], 24)

    assert [store.num_bytes > 0 for store in stream.state.layers] == [True, False, True]


@pytest.mark.parametrize("plan", [(1, 1, 1), (1, 2, 4), (8, 0, 1)])
def test_frames_wait_for_the_look_ahead_and_no_longer(
    model: Moonshine, plan: tuple[int, ...]
) -> None:
    with looking_ahead(model, 8):
        stream = opened(noise(60_000)[0][0], [DepthPlan(plan)])
        stream.state.progress.look_ahead_frames = 8
        encoder, final = IncrementalEncoder(model.encoder, 24), [0]
        while (chunk := next_chunk(model, stream, 24)) is not None:
            with torch.inference_mode():
                final.append(final[-1] + len(encoder.step([chunk])[0]))
            assert stream.state.num_final_frames == final[-1]

        frames = stream.frames
        edges = [*range(24, frames, 24), frames]
        assert final[1:] == [edge - 8 if edge % 24 == 0 else edge for edge in edges]


def test_what_a_chunk_holds_back_hears_the_next_one(model: Moonshine) -> None:
    samples_S = noise(samples_of_frames(48))[0][0]
    changed_S = samples_S.clone()
    changed_S[samples_of_frames(24) :] = 0.5
    with looking_ahead(model, 8):
        first, second = (
            offline(model, one, [DepthPlan.full(3)], 24) for one in (samples_S, changed_S)
        )

    # The three layers answer 3, 6 and 8 frames behind the edge.
    assert torch.equal(first[:16], second[:16])
    changed = (first[16:24] - second[16:24]).abs().amax(dim=1)
    assert bool((changed > 1e-3).all())


@pytest.mark.parametrize("ahead", [4, 32])
def test_a_look_ahead_that_chunks_cannot_have_is_refused(model: Moonshine, ahead: int) -> None:
    expected = f"multiples of 8 up to a chunk of 24, got {ahead}"
    with looking_ahead(model, ahead), pytest.raises(PlanInvalid, match=expected):
        IncrementalEncoder(model.encoder, 24)


def test_plans_that_change_inside_a_chunk_have_no_look_ahead(model: Moonshine) -> None:
    samples_S = noise(40_000)[0][0]
    schedule = DepthSchedule(((0, DepthPlan((1, 1, 1))), (8, DepthPlan((1, 2, 2)))))
    with (
        looking_ahead(model, 8),
        pytest.raises(PlanInvalid, match=r"chunks of 24 frames, got \[8\]"),
    ):
        encode(model, samples_S[None], torch.tensor([40_000]), schedule, 24)


def test_later_samples_never_change_earlier_states(model: Moonshine) -> None:
    plan = constant(1, 2, 4).parts[0][1]
    samples_S = noise(40_000)[0][0]
    changed_S = samples_S.clone()
    changed_S[samples_of_frames(48) :] = 3.0

    first, second = (
        streamed(model, [opened(one, [plan])], 24)[0] for one in (samples_S, changed_S)
    )

    assert torch.equal(first[:48], second[:48])
    assert not torch.allclose(first[48:], second[48:], atol=1e-2)
