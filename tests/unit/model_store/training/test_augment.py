"""What is done to the student's audio keeps its length and its times, and does what it says."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model_store.training.augment import (
    Augmenter,
    by_telephone,
    in_a_room,
    through_a_microphone,
)
from model_store.training.config import AugmentConfig

RATE_HZ = 16_000
EVERYTHING = AugmentConfig(room=1.0, noise=1.0, babble=1.0, microphone=1.0, telephone=1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sound(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(samples, generator=seeded(seed))


def tone(hz: float, samples: int = RATE_HZ) -> Tensor:
    return 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(samples) / RATE_HZ)


def power_db(samples_S: Tensor) -> float:
    return float(10 * samples_S.square().mean().clamp(min=1e-12).log10())


@settings(deadline=None, max_examples=20)
@given(
    length=st.integers(min_value=900, max_value=9000),
    others=st.integers(min_value=0, max_value=4000),
    seed=st.integers(min_value=0, max_value=99),
)
def test_length_and_range_are_kept_whatever_is_drawn(length: int, others: int, seed: int) -> None:
    augment = Augmenter(sound(others, 1), EVERYTHING)

    heard_S = augment(sound(length), sound(others, 2), seeded(seed))

    assert heard_S.shape == (length,)
    assert bool(heard_S.isfinite().all())
    assert float(heard_S.abs().max()) <= 1


def test_the_same_draw_gives_the_same_sound() -> None:
    augment = Augmenter(sound(5000, 1), EVERYTHING)

    first, second = (augment(sound(4000), sound(3000, 2), seeded(7)) for _ in range(2))

    assert torch.equal(first, second)


@pytest.mark.parametrize("change", [in_a_room, through_a_microphone])
def test_the_direct_sound_stays_where_it_is(
    change: Callable[[Tensor, torch.Generator], Tensor],
) -> None:
    click_S = torch.zeros(4000)
    click_S[1000] = 1.0

    heard_S = change(click_S, seeded(3))

    assert int(heard_S.abs().argmax()) == 1000


def test_a_room_answers_after_the_sound_and_not_before() -> None:
    click_S = torch.zeros(8000)
    click_S[1000] = 1.0

    heard_S = in_a_room(click_S, seeded(3))

    assert float(heard_S[:999].abs().max()) < 1e-5
    assert float(heard_S[1400:].abs().max()) > 1e-5


@pytest.mark.parametrize(("hz", "kept"), [(100, False), (1000, True), (3000, True), (6000, False)])
def test_a_telephone_keeps_its_band(hz: float, kept: bool) -> None:
    change_db = power_db(by_telephone(tone(hz))) - power_db(tone(hz))

    assert change_db == pytest.approx(0, abs=1) if kept else change_db < -20


def test_noise_comes_at_the_level_that_was_asked_for() -> None:
    config = AugmentConfig(noise=1.0, noise_db=(10.0, 10.0), gain_db=(0.0, 0.0))
    clean_S = sound(RATE_HZ)

    heard_S = Augmenter(sound(3 * RATE_HZ, 5), config)(clean_S, torch.zeros(0), seeded())

    assert power_db(clean_S) - power_db(heard_S - clean_S) == pytest.approx(10, abs=0.3)


def test_nothing_is_done_when_nothing_is_asked_for() -> None:
    config = AugmentConfig(noise=0.0, gain_db=(0.0, 0.0))

    heard_S = Augmenter(sound(100, 1), config)(sound(4000), sound(100, 2), seeded())

    assert torch.equal(heard_S, sound(4000))
