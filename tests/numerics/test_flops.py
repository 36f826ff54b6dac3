"""The FLOPs formula against operations counted on real runs (math attention, float32, batch 1)."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_store.backbones import EncoderStates, SpeechModule
from model_store.backbones.moonshine import Moonshine, MoonshineConfig
from model_store.backbones.whisper import Whisper, WhisperConfig
from model_store.decoding.greedy import decode_greedy
from model_store.depth import STRIDES, DepthPlan, DepthSchedule, PlanCatalogue
from model_store.flops import ModelSizes, decoder_flops, encoder_flops
from model_store.registry.sizes import model_sizes
from tests.numerics.backbones import MOONSHINE, NUM_LAYERS, WHISPER, noise

NEVER = -1
CONFIGS: dict[str, MoonshineConfig | WhisperConfig] = {
    "moonshine": MOONSHINE,
    "moonshine-factorised": dataclasses.replace(MOONSHINE, front_end_rank=8),
    "moonshine-pooled": dataclasses.replace(MOONSHINE, memory_pool=4, bypass_rank=4),
    "whisper": WHISPER,
    "whisper-pooled": dataclasses.replace(WHISPER, memory_pool=4, bypass_rank=4),
    "whisper-padded": dataclasses.replace(WHISPER, mels=128, pad_to_s=2.0),
}
PLANS = {
    "full": "1,1,1",
    "strided": "2,2,2",
    "sparse": "8,4,8",
    "skipped": "1,0,1",
    "mixed": "4,0,2",
}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request: pytest.FixtureRequest) -> SpeechModule:
    torch.manual_seed(0)
    config = CONFIGS[request.param]
    built = Moonshine(config) if isinstance(config, MoonshineConfig) else Whisper(config)
    return built.eval()


def counted(run: Callable[[], object]) -> int:
    with (
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        run()
    return counter.get_total_flops()


def encoded_at(model: SpeechModule, schedule: DepthSchedule, length: int) -> EncoderStates:
    with torch.inference_mode():
        return model.encode(*noise(length), schedule)


@pytest.mark.parametrize("length", [700, 20_011])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_encoder_costs_what_is_counted(model: SpeechModule, plan: str, length: int) -> None:
    schedule = DepthSchedule.constant(DepthPlan.parse(plan))

    flops = counted(lambda: model.encode(*noise(length), schedule))

    assert encoder_flops(model_sizes(model), schedule, length) == flops


def test_plans_that_change_along_the_way_cost_what_is_counted(model: SpeechModule) -> None:
    parts = ((0, DepthPlan((1, 2, 4))), (16, DepthPlan((4, 2, 1))), (32, DepthPlan((8, 8, 8))))
    schedule = DepthSchedule(parts)

    flops = counted(lambda: model.encode(*noise(20_011), schedule))

    assert encoder_flops(model_sizes(model), schedule, 20_011) == flops


def test_a_chunk_mask_costs_what_is_counted(model: SpeechModule) -> None:
    schedule = DepthSchedule.constant(DepthPlan((1, 2, 4)))

    flops = counted(lambda: model.encode(*noise(20_011), schedule, 16))

    assert encoder_flops(model_sizes(model), schedule, 20_011) == flops


@pytest.mark.parametrize("watched", [{}, {0: [1], 1: [0, 2]}], ids=["plain", "watched"])
@pytest.mark.parametrize("length", [700, 6_000])
def test_the_decoder_costs_what_is_counted(
    model: SpeechModule, length: int, watched: dict[int, list[int]]
) -> None:
    encoded = encoded_at(model, DepthSchedule.constant(DepthPlan.full(NUM_LAYERS)), length)
    sizes = dataclasses.replace(
        model_sizes(model), watched_heads=sum(len(heads) for heads in watched.values())
    )

    for limit in (1, 5):
        flops = counted(lambda: decode_greedy(model, encoded, [limit], NEVER, watched))  # noqa: B023 called at once

        assert decoder_flops(sizes, length, limit) == flops


def test_the_step_that_gives_the_end_token_is_counted(model: SpeechModule) -> None:
    encoded = encoded_at(model, DepthSchedule.constant(DepthPlan.full(NUM_LAYERS)), 6_000)
    (free,) = decode_greedy(model, encoded, [6], NEVER)
    (ended,) = decode_greedy(model, encoded, [6], free.tokens[-1])

    flops = counted(lambda: decode_greedy(model, encoded, [6], free.tokens[-1]))

    assert ended.ended
    assert decoder_flops(model_sizes(model), 6_000, ended.steps) == flops


def test_frames_are_those_of_the_model(model: SpeechModule) -> None:
    sizes = model_sizes(model)

    for length in (1, 500, 894, 895, 1_278, 1_279, 6_000, 20_011):
        assert sizes.num_frames(length) == int(model.num_frames(torch.tensor(length)))


MOONSHINE_BASE = MoonshineConfig(
    dim=416,
    inner_dim=1664,
    num_heads=8,
    encoder_layers=8,
    decoder_layers=8,
    vocabulary=32_768,
    front_end_rank=256,
    memory_pool=4,
    bypass_rank=64,
)


@pytest.fixture(scope="module")
def base_sizes() -> ModelSizes:
    with torch.device("meta"):
        return model_sizes(Moonshine(MOONSHINE_BASE))


@settings(max_examples=30)
@given(st.permutations(range(8)), st.integers(4_000, 400_000))
def test_a_deeper_plan_never_costs_less_along_a_ladder(
    base_sizes: ModelSizes, order: list[int], length: int
) -> None:
    # Each rung doubles the stride of one layer of the rung above it.
    strides = [1] * 8
    ladder = [DepthPlan(tuple(strides))]
    for _ in STRIDES[1:]:
        for layer in order:
            strides[layer] *= 2
            ladder.append(DepthPlan(tuple(strides)))
    catalogue = PlanCatalogue(8, tuple(ladder), ())

    flops = [
        encoder_flops(base_sizes, DepthSchedule.constant(plan), length)
        for plan in catalogue.offered
    ]

    assert flops == sorted(flops, reverse=True)


def test_half_the_depth_costs_a_little_over_half_of_the_encoder(base_sizes: ModelSizes) -> None:
    full, half, skipped = (
        encoder_flops(base_sizes, DepthSchedule.constant(DepthPlan.parse(plan)), 160_000)
        for plan in ("1,1,1,1,1,1,1,1", "2,2,2,2,2,2,2,2", "1,1,1,1,0,0,0,0")
    )

    assert 0.5 < half / full <= 0.56
    assert 0.5 < skipped / full <= 0.60
