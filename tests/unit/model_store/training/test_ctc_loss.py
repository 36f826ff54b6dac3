import itertools
import math

import pytest
import torch

from model_store.training.ctc_loss import ctc_loss, posterior_kl

BLANK = 0


def random_scores(batch: int, frames: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, vocabulary, generator=generator).log_softmax(-1)


def by_enumeration(log_probs_TV: torch.Tensor, text: list[int]) -> float:
    """-log of the probability of all paths that collapse to the text."""
    total = 0.0
    for path in itertools.product(range(log_probs_TV.shape[1]), repeat=len(log_probs_TV)):
        joined = [t for i, t in enumerate(path) if i == 0 or path[i - 1] != t]
        if [t for t in joined if t != BLANK] == text:
            total += math.exp(sum(float(log_probs_TV[i, t]) for i, t in enumerate(path)))
    return -math.log(total)


@pytest.mark.parametrize("text", [[1], [1, 2], [2, 2]])
def test_it_is_the_probability_of_all_paths(text: list[int]) -> None:
    log_probs_BTV = random_scores(1, 4, 3)

    found = ctc_loss(
        log_probs_BTV,
        torch.tensor([4]),
        torch.tensor([text]),
        torch.tensor([len(text)]),
        blank=BLANK,
        per="utterance",
    )

    assert float(found) == pytest.approx(by_enumeration(log_probs_BTV[0], text), rel=1e-5)


def test_padding_counts_in_neither_direction() -> None:
    log_probs_BTV = random_scores(2, 6, 4)
    token_BU, lengths_B = torch.tensor([[1, 2, 3], [2, 0, 0]]), torch.tensor([3, 1])
    changed_BTV = log_probs_BTV.clone()
    changed_BTV[1, 4:] = random_scores(1, 2, 4, seed=1)[0]
    frames_B = torch.tensor([6, 4])

    first = ctc_loss(log_probs_BTV, frames_B, token_BU, lengths_B, blank=BLANK)
    second = ctc_loss(changed_BTV, frames_B, token_BU + 3 * (token_BU == 0), lengths_B, blank=BLANK)

    assert torch.equal(first, second)


def test_each_normalisation_is_what_it_says() -> None:
    arguments = (
        random_scores(2, 6, 4),
        torch.tensor([6, 5]),
        torch.tensor([[1, 2], [3, 0]]),
        torch.tensor([2, 1]),
    )
    each = [
        ctc_loss(*(a[row : row + 1] for a in arguments), blank=BLANK, per="utterance")
        for row in (0, 1)
    ]

    by_token = ctc_loss(*arguments, blank=BLANK, per="token")
    by_utterance = ctc_loss(*arguments, blank=BLANK, per="utterance")

    torch.testing.assert_close(by_utterance, (each[0] + each[1]) / 2)
    torch.testing.assert_close(by_token, (each[0] / 2 + each[1]) / 2)


def test_a_text_too_long_for_its_frames_adds_nothing() -> None:
    log_probs_BTV = random_scores(1, 2, 4).requires_grad_()

    loss = ctc_loss(
        log_probs_BTV, torch.tensor([2]), torch.tensor([[1, 2, 3]]), torch.tensor([3]), blank=BLANK
    )
    loss.backward()

    assert float(loss.detach()) == 0
    assert log_probs_BTV.grad is not None
    assert bool(log_probs_BTV.grad.isfinite().all())


def test_the_distance_of_a_model_from_itself_is_none() -> None:
    log_probs_BTV = random_scores(2, 5, 7)

    for per in ("frame", "utterance"):
        distance = posterior_kl(log_probs_BTV, log_probs_BTV, torch.tensor([5, 3]), per=per)
        assert float(distance) == pytest.approx(0, abs=1e-6)


def test_the_distance_is_the_teachers_over_valid_frames() -> None:
    student, teacher = random_scores(2, 5, 7), random_scores(2, 5, 7, seed=1)
    frames_B = torch.tensor([5, 3])
    valid_BT = torch.arange(5) < frames_B[:, None]
    expected = ((teacher.exp() * (teacher - student)).sum(-1) * valid_BT).sum()

    torch.testing.assert_close(posterior_kl(student, teacher, frames_B), expected / 8)
    torch.testing.assert_close(
        posterior_kl(student, teacher, frames_B, per="utterance"), expected / 2
    )


def test_a_temperature_softens_both_and_keeps_the_gradients_size() -> None:
    student, teacher = random_scores(1, 4, 5), random_scores(1, 4, 5, seed=1)
    soft = [(one / 2).log_softmax(-1) for one in (student, teacher)]

    found = posterior_kl(student, teacher, torch.tensor([4]), temperature=2.0)

    torch.testing.assert_close(found, 4 * posterior_kl(soft[0], soft[1], torch.tensor([4])))


def test_only_the_student_learns() -> None:
    student, teacher = (random_scores(1, 4, 5, seed=s).requires_grad_() for s in (0, 1))

    posterior_kl(student, teacher, torch.tensor([4])).backward()

    assert student.grad is not None
    assert teacher.grad is None
