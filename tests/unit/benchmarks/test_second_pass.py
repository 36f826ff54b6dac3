"""Which captions are worth hearing twice."""

from typing import cast

import pytest

from benchmarks.second_pass import SHARES, Heard, words_lost
from model_store.text.wer import WordErrors


def heard(doubt: float, errors: int) -> Heard:
    return Heard(2.0, doubt, WordErrors(errors, 0, 0, 10))


def test_doubt_finds_the_errors_that_a_second_pass_puts_right() -> None:
    once = [heard(0.1, 0), heard(0.9, 6), heard(0.2, 1), heard(0.6, 3)]
    twice = [heard(0.1, 0), heard(0.9, 1), heard(0.2, 1), heard(0.6, 1)]

    found = words_lost(once, twice)

    by_doubt = dict(zip(SHARES, cast("list[float]", found["wer_by_doubt"]), strict=True))
    assert by_doubt[0.0] == pytest.approx(10 / 40)
    assert by_doubt[0.25] == pytest.approx(5 / 40)
    assert by_doubt[0.5] == by_doubt[1.0] == pytest.approx(3 / 40)
    at_random = dict(zip(SHARES, cast("list[float]", found["wer_at_random"]), strict=True))
    assert at_random[0.0] == by_doubt[0.0]
    assert by_doubt[0.5] < at_random[0.5] < at_random[0.0]
