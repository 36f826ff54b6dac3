"""What holds for every backbone, on tiny random models."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model_store.backbones import SpeechModule
from model_store.backbones.elastic import RowContext
from model_store.backbones.moonshine import Moonshine
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.decoding.greedy import decode_greedy
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue
from model_store.errors import PlanInvalid
from tests.numerics.backbones import (
    BACKBONES,
    NUM_LAYERS,
    VOCABULARY,
    constant,
    encode,
    layers,
    noise,
    valid_rows,
)

CHUNK_FRAMES = 16
FULL = constant(1, 1, 1)
STRIDES = st.sampled_from([1, 2, 4, 8])
ANY_PLAN = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * NUM_LAYERS).filter(any)


@pytest.fixture(params=BACKBONES, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> SpeechModule:
    return BACKBONES[name].build()


def plain_stack(model: SpeechModule, x_BTD: Tensor, kept: list[int]) -> Tensor:
    position_T = torch.arange(x_BTD.shape[1])
    cos_TR, sin_TR = (
        model.encoder.rotary(position_T) if isinstance(model, Moonshine) else (None, None)
    )
    context = RowContext(0, position_T, None, cos_TR, sin_TR)
    for index in kept:
        x_BTD = layers(model)[index].block(x_BTD, context)
    return x_BTD


def stack_input_and_output(model: SpeechModule, schedule: DepthSchedule) -> tuple[Tensor, Tensor]:
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0], output))

    handle = model.encoder.stack.register_forward_hook(keep)
    encode(model, *noise(30_000), schedule)
    handle.remove()
    return seen[0]


def test_the_full_plan_equals_a_plain_stack_bitwise(model: SpeechModule) -> None:
    before_BTD, after_BTD = stack_input_and_output(model, FULL)

    with torch.inference_mode():
        plain_BTD = plain_stack(model, before_BTD, [0, 1, 2])

    assert torch.equal(after_BTD, plain_BTD)


def test_skipping_without_a_bypass_is_the_identity(name: str) -> None:
    model = BACKBONES[name].build(bypass_rank=0)

    before_BTD, after_BTD = stack_input_and_output(model, constant(1, 0, 1))

    with torch.inference_mode():
        assert torch.equal(after_BTD, plain_stack(model, before_BTD, [0, 2]))


def test_a_bypass_stands_in_for_a_skipped_layer(model: SpeechModule) -> None:
    before_BTD, after_BTD = stack_input_and_output(model, constant(1, 0, 1))

    with torch.inference_mode():
        assert not torch.allclose(after_BTD, plain_stack(model, before_BTD, [0, 2]), atol=1e-3)


def test_it_makes_as_many_frames_as_it_says(model: SpeechModule) -> None:
    for length in (1, 100, 895, 960, 10_001, 33_333):
        samples_BS, num_samples_B = noise(length)

        encoded = encode(model, samples_BS, num_samples_B, FULL)

        assert torch.equal(encoded.num_frames_B, model.num_frames(num_samples_B))
        assert encoded.states_BTD.shape[1] == int(encoded.num_frames_B[0])
        assert bool(encoded.states_BTD.isfinite().all())


@settings(max_examples=12)
@given(
    plan=ANY_PLAN,
    lengths=st.tuples(*[st.integers(1000, 40_000)] * 2),
    chunk_frames=st.sampled_from([None, CHUNK_FRAMES]),
)
def test_a_row_depends_neither_on_its_neighbours_nor_on_padding(
    model: SpeechModule,
    plan: tuple[int, ...],
    lengths: tuple[int, int],
    chunk_frames: int | None,
) -> None:
    samples_BS, num_samples_B = noise(*lengths)

    together = encode(model, samples_BS, num_samples_B, constant(*plan), chunk_frames)

    for row, states_TD in enumerate(valid_rows(together)):
        own_BS = samples_BS[row : row + 1, : lengths[row]]
        alone = encode(model, own_BS, num_samples_B[row : row + 1], constant(*plan), chunk_frames)
        torch.testing.assert_close(states_TD, alone.states_BTD[0], rtol=1e-4, atol=1e-5)


@settings(max_examples=12)
@given(plan=ANY_PLAN, later=st.tuples(STRIDES, STRIDES, STRIDES), chunk=st.integers(1, 3))
def test_later_audio_never_changes_earlier_chunks(
    name: str, model: SpeechModule, plan: tuple[int, ...], later: tuple[int, ...], chunk: int
) -> None:
    switching = DepthSchedule(((0, DepthPlan(later)), (32, DepthPlan((1, 2, 4)))))
    schedule = constant(*plan) if 0 in plan else switching
    frames = chunk * CHUNK_FRAMES
    heard = (frames - 1) * model.frame_samples + BACKBONES[name].receptive_samples
    samples_BS, num_samples_B = noise(40_000)
    changed_BS = samples_BS.clone()
    changed_BS[:, heard:] = 5 * noise(40_000, seed=1)[0][:, heard:]

    first = encode(model, samples_BS, num_samples_B, schedule, CHUNK_FRAMES)
    second = encode(model, changed_BS, num_samples_B, schedule, CHUNK_FRAMES)

    same, other = (item.states_BTD[0] for item in (first, second))
    torch.testing.assert_close(same[:frames], other[:frames], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(same[frames:], other[frames:], atol=1e-2)


def test_a_schedule_of_equal_plans_equals_the_constant_one(model: SpeechModule) -> None:
    plan = DepthPlan((2, 1, 4))
    schedule = DepthSchedule(((0, plan), (16, plan), (24, plan)))
    samples = noise(30_000, 20_000)

    mixed = encode(model, *samples, schedule)
    whole = encode(model, *samples, DepthSchedule.constant(plan))

    assert torch.equal(mixed.states_BTD, whole.states_BTD)


def test_a_switch_leaves_the_chunks_before_it_as_they_were(model: SpeechModule) -> None:
    first, then = DepthPlan((1, 2, 1)), DepthPlan((4, 8, 2))
    schedule = DepthSchedule(((0, first), (32, then)))
    samples = noise(30_000)

    switched = encode(model, *samples, schedule, CHUNK_FRAMES).states_BTD
    constant_BTD = encode(model, *samples, DepthSchedule.constant(first), CHUNK_FRAMES).states_BTD

    torch.testing.assert_close(switched[:, :32], constant_BTD[:, :32], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(switched[:, 32:], constant_BTD[:, 32:], atol=1e-2)


def test_a_layer_runs_as_many_rows_as_the_schedule_counts(model: SpeechModule) -> None:
    schedule = DepthSchedule(((0, DepthPlan((1, 2, 8))), (24, DepthPlan((4, 2, 1)))))
    rows: list[int] = []
    handles = [
        layer.block.register_forward_hook(
            lambda _module, inputs, _output: rows.append(inputs[0].shape[1])
        )
        for layer in layers(model)
    ]

    encoded = encode(model, *noise(30_000), schedule)

    for handle in handles:
        handle.remove()
    frames = encoded.states_BTD.shape[1]
    assert rows == [schedule.num_rows(layer, frames) for layer in range(NUM_LAYERS)]


def test_a_plan_of_another_depth_is_refused(model: SpeechModule) -> None:
    with pytest.raises(PlanInvalid, match="expected 3 strides, got 2"):
        encode(model, *noise(20_000), constant(1, 1))


def test_a_group_never_straddles_a_chunk(model: SpeechModule) -> None:
    with pytest.raises(PlanInvalid, match="multiples of stride 8, got 12"):
        encode(model, *noise(20_000), constant(1, 8, 1), 12)


def test_a_checkpoint_in_float32_gives_the_model_back_exactly(
    model: SpeechModule, tmp_path: Path
) -> None:
    save_checkpoint(model, PlanCatalogue.untuned(NUM_LAYERS), tmp_path)

    loaded = load_checkpoint(tmp_path).model

    assert loaded.config == model.config
    assert loaded.prompt == model.prompt
    assert all(
        torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items()
    )
    plan = constant(2, 0, 1)
    expected = encode(model, *noise(20_000), plan)
    assert torch.equal(encode(loaded, *noise(20_000), plan).states_BTD, expected.states_BTD)


def test_a_checkpoint_in_int8_gives_nearly_the_same_states(
    model: SpeechModule, tmp_path: Path
) -> None:
    save_checkpoint(model, PlanCatalogue.untuned(NUM_LAYERS), tmp_path, int8=True)

    loaded = load_checkpoint(tmp_path).model

    expected_BTD = encode(model, *noise(20_000), FULL).states_BTD
    error_BTD = encode(loaded, *noise(20_000), FULL).states_BTD - expected_BTD
    assert float(error_BTD.square().mean() / expected_BTD.square().mean()) < 0.03**2


@torch.inference_mode()
def test_cached_decoding_equals_one_pass_over_all_tokens(model: SpeechModule) -> None:
    token_BU = torch.randint(VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))
    pooled = model.decoder.pool(model.encode(*noise(30_000, 18_000), FULL))

    whole_BUD = model.decoder(token_BU, model.decoder.begin(pooled, 12))
    cache = model.decoder.begin(pooled, 12)
    parts: list[Tensor] = list(torch.split(token_BU, [3, 1, 1, 4, 1, 2], dim=1))
    steps: list[Tensor] = [model.decoder(part, cache) for part in parts]

    torch.testing.assert_close(torch.cat(steps, dim=1), whole_BUD, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_training_decodes_as_serving_does(model: SpeechModule) -> None:
    token_BU = torch.randint(VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    pooled = model.decoder.pool(model.encode(*noise(30_000, 18_000), FULL))
    served_BUD = model.decoder(token_BU, model.decoder.begin(pooled, 9))

    with torch.inference_mode(mode=False), torch.enable_grad():
        encoded = model.encode(*noise(30_000, 18_000), FULL)
        cache = model.decoder.begin(model.decoder.pool(encoded), 9)
        trained_BUD = model.decoder(token_BU.clone(), cache)

    torch.testing.assert_close(trained_BUD.detach(), served_BUD, rtol=1e-4, atol=1e-5)


def test_a_transcript_does_not_depend_on_its_neighbours(model: SpeechModule) -> None:
    lengths = (30_000, 9_000, 21_000)
    samples_BS, num_samples_B = noise(*lengths)
    end_token = model.config.end_token

    together = decode_greedy(
        model, encode(model, samples_BS, num_samples_B, FULL), [5, 9, 12], end_token
    )

    for row, limit in enumerate([5, 9, 12]):
        own_BS = samples_BS[row : row + 1, : lengths[row]]
        encoded = encode(model, own_BS, num_samples_B[row : row + 1], FULL)
        alone = decode_greedy(model, encoded, [limit], end_token)[0]
        assert together[row].tokens == alone.tokens
        assert together[row].steps == alone.steps
