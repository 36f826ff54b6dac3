"""A tiny student and references that no teacher had to make, for tests of training."""

import torch

from model_store.backbones.moonshine import (
    FRAME_SAMPLES,
    RECEPTIVE_SAMPLES,
    Moonshine,
    MoonshineConfig,
)
from model_store.training.config import (
    DataConfig,
    LossConfig,
    OptimiserConfig,
    PlanSource,
    RunConfig,
    SamplingConfig,
)
from model_store.training.reference import TOP_TOKENS, Reference

RATE_HZ = 16_000
VOCABULARY = 64
END = 2
NUM_LAYERS = 3

TINY = MoonshineConfig(
    dim=32,
    inner_dim=48,
    num_heads=2,
    encoder_layers=NUM_LAYERS,
    decoder_layers=2,
    vocabulary=VOCABULARY,
    rotated=8,
    front_end_rank=8,
    memory_pool=2,
    bypass_rank=4,
)

RUN = RunConfig(
    seed=3,
    sampling=SamplingConfig(
        plans=(
            PlanSource(kind="strides", weight=1.0),
            PlanSource(kind="skip", weight=1.0, weight_end=0.5, kept=(1, 2)),
            PlanSource(kind="fixed", weight=1.0, plan="1,1,1"),
        ),
        switch=0.5,
    ),
    optimiser=OptimiserConfig(steps=6, warmup_steps=2),
    loss=LossConfig(),
    data=DataConfig(batch_s=4.0, cut=0.5),
    report_steps=2,
    evaluate_steps=3,
    save_s=0.0,
)


def student(seed: int = 0) -> Moonshine:
    torch.manual_seed(seed)
    return Moonshine(TINY)


def reference(name: str, seconds: float, num_tokens: int = 6) -> Reference:
    """An utterance of noise whose tokens end at even distances."""
    draw = torch.Generator().manual_seed(round(seconds * 1000))
    samples = round(seconds * RATE_HZ)
    frames = (samples - RECEPTIVE_SAMPLES) // FRAME_SAMPLES + 1
    logits_UV = torch.randn(num_tokens, VOCABULARY, generator=draw)
    top_UK = logits_UV.log_softmax(-1).topk(TOP_TOKENS)
    token_U = torch.randint(3, VOCABULARY, (num_tokens,), generator=draw)
    token_U[-1] = END
    return Reference(
        id=name,
        samples_S=torch.randint(-9_000, 9_000, (samples,), generator=draw, dtype=torch.int16),
        states_TD=torch.randn(frames, TINY.dim, generator=draw).bfloat16(),
        token_U=token_U.to(torch.int32),
        end_s_U=seconds * torch.arange(1, num_tokens + 1) / num_tokens,
        top_token_UK=top_UK.indices.to(torch.int32),
        top_logp_UK=top_UK.values.to(torch.float16),
    )


def references(count: int = 12) -> list[Reference]:
    return [
        reference(f"made/{index}", 1.0 + 0.17 * index, num_tokens=4 + index % 3)
        for index in range(count)
    ]


def noise(seconds: float = 6.0) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * RATE_HZ), generator=torch.Generator().manual_seed(9))
