"""What holds for every backbone that scores its frames, on tiny random models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_store.backbones import CtcModule, EncoderStates
from model_store.backbones.conformer import Conformer
from model_store.backbones.elastic import LayerRows, RowContext
from model_store.backbones.parameters import parameters_used
from model_store.backbones.precision import to_bfloat16
from model_store.backbones.wavlm import WavLM
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.decoding.live_step import Spent
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue, Segment
from model_store.errors import CheckpointError, PlanInvalid, StreamingUnsupported
from model_store.flops import encoder_flops, spent_on_tries
from model_store.registry.sizes import model_sizes
from tests.numerics.backbones import NUM_LAYERS, constant, noise
from tests.numerics.ctc_backbones import CONFIGS, build, elastic_layers

CHUNK_FRAMES = 8
FULL = constant(1, 1, 1)
ANY_PLAN = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * NUM_LAYERS).filter(any)
PLANS = ("1,1,1", "2,2,2", "8,4,8", "1,0,1", "0,2,1", "4,0,2")


@pytest.fixture(params=CONFIGS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> CtcModule:
    return build(name)


@torch.inference_mode()
def encode(
    model: CtcModule,
    samples_BS: Tensor,
    num_samples_B: Tensor,
    schedule: DepthSchedule,
    chunk_frames: int | None = None,
) -> EncoderStates:
    return model.encode(samples_BS, num_samples_B, schedule, chunk_frames)


def stack_input_and_output(model: CtcModule, schedule: DepthSchedule) -> tuple[Tensor, Tensor]:
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0], output))

    layers = elastic_layers(model)
    handles = [layer.register_forward_hook(keep) for layer in (layers[0], layers[-1])]
    encode(model, *noise(50_000), schedule)
    for handle in handles:
        handle.remove()
    return seen[0][0], seen[-1][1]


@torch.inference_mode()
def plain_stack(model: CtcModule, x_BTD: Tensor, kept: tuple[int, ...]) -> Tensor:
    position_T = torch.arange(x_BTD.shape[1]).float()
    bias_HTT = model.encoder.relative(position_T) if isinstance(model, WavLM) else None
    context = RowContext(0, position_T, None, None, None, bias_HGG=bias_HTT)
    for index, layer in enumerate(elastic_layers(model)):
        if index in kept:
            x_BTD = layer.block(x_BTD, context)
        if layer.final_norm is not None:
            x_BTD = layer.final_norm(x_BTD)
    return x_BTD


def test_the_full_plan_equals_a_plain_stack_bitwise(model: CtcModule) -> None:
    before_BTD, after_BTD = stack_input_and_output(model, FULL)

    assert torch.equal(after_BTD, plain_stack(model, before_BTD, (0, 1, 2)))


@pytest.mark.parametrize("skipped", [0, 1, 2])
def test_skipping_without_a_bypass_leaves_the_final_norm_alone(name: str, skipped: int) -> None:
    model = build(name, bypass_rank=0)
    strides = tuple(int(index != skipped) for index in range(NUM_LAYERS))

    before_BTD, after_BTD = stack_input_and_output(model, constant(*strides))

    kept = tuple(index for index in range(NUM_LAYERS) if index != skipped)
    assert torch.equal(after_BTD, plain_stack(model, before_BTD, kept))


def test_only_a_conformer_norms_what_a_skipped_layer_leaves(model: CtcModule) -> None:
    kept = [layer.final_norm is not None for layer in elastic_layers(model)]

    assert kept == [isinstance(model, Conformer)] * NUM_LAYERS


def test_a_bypass_stands_in_for_a_skipped_layer(model: CtcModule) -> None:
    before_BTD, after_BTD = stack_input_and_output(model, constant(1, 0, 1))

    assert not torch.allclose(after_BTD, plain_stack(model, before_BTD, (0, 2)), atol=1e-3)


def test_a_strided_layer_gives_its_change_back_before_the_final_norm(name: str) -> None:
    model = build(name)
    layer = elastic_layers(model)[0]
    with torch.no_grad():
        layer.pool_RD["2"].fill_(0.5)
        layer.give_RD["2"].fill_(1.0)

    before_BTD, _ = stack_input_and_output(model, constant(2, 1, 1))
    before_BTD = before_BTD[:, : before_BTD.shape[1] // 2 * 2]
    batch, frames, dim = before_BTD.shape
    pooled_BGD = before_BTD.reshape(batch, frames // 2, 2, dim).mean(2)
    position_G = 2.0 * torch.arange(pooled_BGD.shape[1]) + 0.5
    bias_HGG = model.encoder.relative(position_G) if isinstance(model, WavLM) else None
    with torch.inference_mode():
        context = RowContext(1, position_G, None, None, None, bias_HGG=bias_HGG)
        change_BGD = layer.block(pooled_BGD, context) - pooled_BGD
        expected_BTD = before_BTD + change_BGD.repeat_interleave(2, dim=1)
        if layer.final_norm is not None:
            expected_BTD = layer.final_norm(expected_BTD)
        found_BTD = model.encoder.stack.layers[0](
            before_BTD, _rows_of(model, before_BTD.shape[1], 2)
        )

    torch.testing.assert_close(found_BTD, expected_BTD, rtol=1e-4, atol=1e-5)


def _rows_of(model: CtcModule, num_frames: int, stride: int) -> LayerRows:
    segments = (Segment(0, num_frames, stride),)
    return LayerRows(segments, model.encoder.stack.context(segments, torch.device("cpu")))


def test_it_makes_as_many_frames_as_it_says(model: CtcModule) -> None:
    sizes = model_sizes(model)
    for length in (1, 100, 399, 400, 1_120, 1_759, 1_760, 10_001, 33_333):
        samples_BS, num_samples_B = noise(length)

        encoded = encode(model, samples_BS, num_samples_B, FULL)

        assert torch.equal(encoded.num_frames_B, model.num_frames(num_samples_B))
        assert encoded.states_BTD.shape[1] == int(encoded.num_frames_B[0])
        assert sizes.num_frames(length) == int(encoded.num_frames_B[0])
        assert bool(encoded.states_BTD.isfinite().all())


@settings(max_examples=12)
@given(plan=ANY_PLAN, lengths=st.tuples(*[st.integers(300, 40_000)] * 2))
def test_a_row_depends_neither_on_its_neighbours_nor_on_padding(
    model: CtcModule, plan: tuple[int, ...], lengths: tuple[int, int]
) -> None:
    samples_BS, num_samples_B = noise(*lengths)

    together = encode(model, samples_BS, num_samples_B, constant(*plan))

    for row, length in enumerate(lengths):
        own_BS, own_B = samples_BS[row : row + 1, :length], num_samples_B[row : row + 1]
        alone = encode(model, own_BS, own_B, constant(*plan))
        states_TD = together.states_BTD[row, : int(together.num_frames_B[row])]
        torch.testing.assert_close(states_TD, alone.states_BTD[0], rtol=1e-3, atol=1e-4)


def test_scores_are_log_probabilities(model: CtcModule) -> None:
    encoded = encode(model, *noise(20_000), FULL)

    with torch.inference_mode():
        log_probs_BTV = model.log_probs(encoded.states_BTD)

    assert log_probs_BTV.shape == (*encoded.states_BTD.shape[:2], model.vocabulary)
    torch.testing.assert_close(log_probs_BTV.exp().sum(-1), torch.ones(log_probs_BTV.shape[:2]))
    assert 0 <= model.blank < model.vocabulary


def test_a_plan_of_another_depth_is_refused(model: CtcModule) -> None:
    with pytest.raises(PlanInvalid, match="expected 3 strides, got 2"):
        encode(model, *noise(20_000), constant(1, 1))


def test_a_chunk_mask_is_refused_where_convolutions_read_the_future(
    name: str, model: CtcModule
) -> None:
    if name == "conformer-streaming":
        assert encode(model, *noise(20_000), FULL, CHUNK_FRAMES).states_BTD.isfinite().all()
        return
    with pytest.raises(StreamingUnsupported, match="for a chunk mask, got"):
        encode(model, *noise(20_000), FULL, CHUNK_FRAMES)


def counted(run: Callable[[], object]) -> int:
    with (
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("length", [300, 20_011])
@pytest.mark.parametrize("plan", PLANS)
def test_the_encoder_costs_what_is_counted(model: CtcModule, plan: str, length: int) -> None:
    schedule = DepthSchedule.constant(DepthPlan.parse(plan))

    flops = counted(lambda: model.encode(*noise(length), schedule))

    assert encoder_flops(model_sizes(model), schedule, length) == flops


def test_the_read_out_costs_what_is_counted(model: CtcModule) -> None:
    schedule = constant(2, 0, 1)

    def transcribe() -> None:
        model.log_probs(model.encode(*noise(20_011), schedule).states_BTD)

    spent = spent_on_tries(model_sizes(model), schedule, [(20_011, 0)])

    flops = counted(transcribe)
    in_encoder = counted(lambda: model.encode(*noise(20_011), schedule))
    in_full = counted(lambda: model.encode(*noise(20_011), FULL))
    assert spent == Spent(flops, in_encoder, in_full + flops - in_encoder)


def test_a_layer_more_never_costs_less(model: CtcModule) -> None:
    sizes = model_sizes(model)
    ladder = ("1,1,1", "1,2,1", "2,2,1", "2,2,2", "2,4,2", "4,4,4", "8,8,8")

    flops = [
        encoder_flops(sizes, DepthSchedule.constant(DepthPlan.parse(plan)), 160_000)
        for plan in ladder
    ]

    assert flops == sorted(flops, reverse=True)


def test_a_checkpoint_in_float32_gives_the_model_back_exactly(
    model: CtcModule, tmp_path: Path
) -> None:
    save_checkpoint(model, PlanCatalogue.untuned(NUM_LAYERS), tmp_path)

    loaded = load_checkpoint(tmp_path).module

    assert isinstance(loaded, CtcModule)
    assert loaded.config == model.config
    expected = encode(model, *noise(20_000), constant(2, 0, 1)).states_BTD
    assert torch.equal(encode(loaded, *noise(20_000), constant(2, 0, 1)).states_BTD, expected)


def test_a_checkpoint_in_int8_gives_nearly_the_same_states(
    model: CtcModule, tmp_path: Path
) -> None:
    save_checkpoint(model, PlanCatalogue.untuned(NUM_LAYERS), tmp_path, int8=True)

    loaded = load_checkpoint(tmp_path).module

    assert isinstance(loaded, CtcModule)
    expected_BTD = encode(model, *noise(20_000), FULL).states_BTD
    error_BTD = encode(loaded, *noise(20_000), FULL).states_BTD - expected_BTD
    assert float(error_BTD.square().mean() / expected_BTD.square().mean()) < 0.05**2


def test_statistics_larger_than_half_precision_holds_survive_int8(tmp_path: Path) -> None:
    model = build("conformer")
    for buffer_name, buffer in model.named_buffers():
        if "running_var" in buffer_name:
            buffer.fill_(1e6)
    save_checkpoint(model, PlanCatalogue.untuned(NUM_LAYERS), tmp_path, int8=True)

    state = load_checkpoint(tmp_path).module.state_dict()

    kept = [value for key, value in state.items() if "running_var" in key]
    assert kept
    assert all(bool((value == 1e6).all()) for value in kept)


def test_a_program_about_decoders_is_told_that_there_is_none(
    model: CtcModule, tmp_path: Path
) -> None:
    save_checkpoint(model, PlanCatalogue.untuned(NUM_LAYERS), tmp_path)

    with pytest.raises(CheckpointError, match=f"attention decoder, got a {model.backbone}"):
        _ = load_checkpoint(tmp_path).model


def test_bfloat16_matrices_change_the_states_by_rounding_alone(name: str) -> None:
    model = build(name)
    exact_BTD = encode(model, *noise(24_000), constant(1, 2, 0)).states_BTD

    to_bfloat16(model)

    rounded_BTD = encode(model, *noise(24_000), constant(1, 2, 0)).states_BTD
    assert rounded_BTD.dtype == torch.float32
    assert float((rounded_BTD - exact_BTD).square().mean() / exact_BTD.var()) < 0.01


@pytest.mark.parametrize("plan", ["1,1,1", "1,0,1", "2,0,4"])
def test_parameters_in_use_are_those_that_get_a_gradient(name: str, plan: str) -> None:
    model = build(name)

    encoded = model.encode(*noise(30_000), DepthSchedule.constant(DepthPlan.parse(plan)))
    model.log_probs(encoded.states_BTD).square().sum().backward()

    moved = 0
    for key, value in model.named_parameters():
        if value.grad is not None:
            rows = value.grad.flatten(1).abs().sum(1) if key.endswith("_SD") else None
            moved += value.numel() if rows is None else int((rows > 0).sum()) * value.shape[1]
    assert parameters_used(model, DepthPlan.parse(plan)) == moved
