import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model_store.training.config import LossConfig
from model_store.training.losses import (
    Targets,
    feature_error,
    kl_divergence,
    normalised,
    total_loss,
)

B, T, D, U, V, K = 2, 7, 5, 4, 12, 6


def logits(seed: int) -> Tensor:
    return 2 * torch.randn(B, U, V, generator=torch.Generator().manual_seed(seed))


def targets(seed: int = 0) -> Targets:
    """Of two utterances, the second one cut: fewer frames, two tokens that count, no end."""
    draw = torch.Generator().manual_seed(seed)
    top_BUK = logits(seed).log_softmax(-1).topk(K)
    return Targets(
        states_BTD=torch.randn(B, T, D, generator=draw).bfloat16(),
        frame_BT=torch.arange(T) < torch.tensor([[T], [4]]),
        token_BU=torch.randint(V, (B, U), generator=draw),
        scored_BU=torch.tensor([[True, True, True, False], [True, True, False, False]]),
        end_BU=torch.tensor([[False, False, False, True], [False] * 4]),
        top_token_BUK=top_BUK.indices,
        top_logp_BUK=top_BUK.values,
    )


def parts_of(
    made: Targets, logits_BUV: Tensor, config: LossConfig | None = None
) -> dict[str, float]:
    return total_loss(made.states_BTD, logits_BUV, made, config or LossConfig())[1]


@given(st.integers(0, 9_999))
def test_the_reference_is_at_no_distance_from_itself(seed: int) -> None:
    made = targets(seed)

    assert kl_divergence(logits(seed).log_softmax(-1), made).abs().max() < 1e-5
    assert feature_error(made.states_BTD, made).abs().max() == 0


@given(st.integers(0, 9_999), st.integers(0, 9_999))
def test_divergence_is_never_negative(seed: int, other: int) -> None:
    assert kl_divergence(logits(other).log_softmax(-1), targets(seed)).min() > -1e-5


def test_divergence_over_all_tokens_is_that_of_torch() -> None:
    logp_BUV, logq_BUV = (logits(seed).log_softmax(-1) for seed in (1, 2))
    top_BUK = logp_BUV.topk(V)
    made = dataclasses.replace(
        targets(), top_token_BUK=top_BUK.indices, top_logp_BUK=top_BUK.values
    )

    expected_BUV = torch.nn.functional.kl_div(logq_BUV, logp_BUV, reduction="none", log_target=True)

    assert torch.allclose(kl_divergence(logq_BUV, made), expected_BUV.sum(-1), atol=1e-4)


def test_tokens_beside_the_likeliest_count_as_one() -> None:
    logp_BUV, logq_BUV = (logits(seed).log_softmax(-1) for seed in (0, 2))
    made = targets(0)
    inside_BUV = torch.zeros_like(logp_BUV).scatter(-1, made.top_token_BUK, 1.0)
    lumped = [
        torch.cat([one.gather(-1, made.top_token_BUK), rest.unsqueeze(-1)], -1)
        for one in (logp_BUV, logq_BUV)
        for rest in [(one.exp() * (1 - inside_BUV)).sum(-1).log()]
    ]

    expected_BU = (lumped[0].exp() * (lumped[0] - lumped[1])).sum(-1)

    assert torch.allclose(kl_divergence(logq_BUV, made), expected_BU, atol=1e-5)


def test_feature_error_is_the_share_of_the_variance() -> None:
    made = targets()
    zero_BTD = torch.zeros(B, T, D)

    error_BT = feature_error(zero_BTD, made)

    # Predicting the mean, which is near 0, misses about all of the variance.
    assert float(error_BT[made.frame_BT].mean()) == pytest.approx(1, abs=0.1)


def test_sums_are_divided_by_places_or_by_utterances() -> None:
    value_BN = torch.tensor([[1.0, 2.0, 3.0], [4.0, 50.0, 60.0]])
    mask_BN = torch.tensor([[True, True, True], [True, False, False]])

    assert float(normalised(value_BN, mask_BN, "token")) == 10 / 4
    assert float(normalised(value_BN, mask_BN, "utterance")) == 10 / 2


def test_nothing_to_count_costs_nothing() -> None:
    nothing_BN = torch.zeros(2, 3, dtype=torch.bool)

    assert float(normalised(torch.ones(2, 3), nothing_BN, "token")) == 0


@pytest.mark.parametrize("name", ["kl", "task", "features"])
def test_the_normalisation_of_each_loss_is_a_switch(name: str) -> None:
    made = dataclasses.replace(targets(), states_BTD=torch.randn(B, T, D))
    far_BTD, far_BUV = made.states_BTD + 1, logits(5)
    counts = {"kl": 6, "task": 5, "features": 11}
    per_utterance = dataclasses.replace(LossConfig(), **{f"{name}_per": "utterance"})

    by_token = total_loss(far_BTD, far_BUV, made, LossConfig())[1]
    by_utterance = total_loss(far_BTD, far_BUV, made, per_utterance)[1]

    assert by_utterance[name] == pytest.approx(by_token[name] * counts[name] / B, rel=1e-5)
    others = {other for other in by_token if other != name}
    assert all(by_utterance[other] == by_token[other] for other in others)


def test_the_end_token_counts_only_where_it_is_asked_for() -> None:
    made, near_BUV = targets(), logits(1)
    far_BUV = near_BUV.clone()
    far_BUV[1, -1] += 20 * torch.randn(V)  # the cut utterance's last place

    assert parts_of(made, far_BUV) == parts_of(made, near_BUV)

    far_BUV[0, -1] += 20 * torch.randn(V)
    asked = parts_of(made, far_BUV)
    assert asked["end"] != parts_of(made, near_BUV)["end"]
    assert asked["task"] == parts_of(made, near_BUV)["task"]


def test_tokens_after_a_cut_do_not_count() -> None:
    made, near_BUV = targets(), logits(1)
    far_BUV = near_BUV.clone()
    far_BUV[1, 2] += 20 * torch.randn(V)

    assert parts_of(made, far_BUV) == parts_of(made, near_BUV)


def test_frames_past_the_end_do_not_count() -> None:
    made = targets()
    far_BTD = made.states_BTD.float()
    far_BTD[1, 4:] += 100

    assert total_loss(far_BTD, logits(1), made, LossConfig())[1]["features"] == 0


@given(*[st.floats(0, 2)] * 4)
def test_the_total_is_the_weighted_sum(task: float, end: float, kl: float, features: float) -> None:
    config = LossConfig(task=task, end=end, kl=kl, features=features)
    made = targets()

    total, parts = total_loss(torch.zeros(B, T, D), logits(3), made, config)

    weighted = sum(getattr(config, name) * value for name, value in parts.items())
    assert float(total) == pytest.approx(weighted, rel=1e-4, abs=1e-5)


def test_task_and_end_together_are_cross_entropy() -> None:
    made, logits_BUV = targets(), logits(4)

    parts = parts_of(made, logits_BUV)

    expected_BU = torch.nn.functional.cross_entropy(
        logits_BUV.transpose(1, 2), made.token_BU, reduction="none"
    )
    assert parts["task"] == pytest.approx(float(expected_BU[made.scored_BU].mean()), rel=1e-5)
    assert parts["end"] == pytest.approx(float(expected_BU[made.end_BU].mean()), rel=1e-5)
