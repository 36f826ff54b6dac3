import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.decoding.confidence import ConfidenceMap
from model_store.training.calibration import (
    FITS,
    IDENTITY,
    LabelledWords,
    fit_word,
    fit_word_and_utterance,
    joined,
    labelled,
    left_out_likelihood,
    mapped,
    reliability,
)


def words(num: int, right: float, seed: int = 0) -> LabelledWords:
    """Words whose chance to be right is a power of their raw confidence."""
    draw = np.random.default_rng(seed)
    raw_N = draw.beta(4, 1, num)
    return LabelledWords(raw_N, np.full(num, raw_N.mean()), draw.random(num) < raw_N**right)


def test_right_and_wrong_words_are_told_apart() -> None:
    item = {
        "text": "The 20% bat, sat - down",
        "reference": "the twenty percent cat sat",
        "words": [
            ["The", 0.9], ["20%", 0.8], ["bat,", 0.4], ["sat", 0.7], ["-", 0.3], ["down", 0.2],
        ],
    }  # fmt: skip

    found = labelled({"a/1": item})

    assert found.raw_N.tolist() == [0.9, 0.8, 0.4, 0.7, 0.2]
    assert found.right_N.tolist() == [True, True, False, True, False]
    assert found.company_N == pytest.approx([0.55] * 5)


def test_half_a_number_right_is_a_word_wrong() -> None:
    item = {"text": "25", "reference": "twenty six", "words": [["25", 0.6]]}

    assert labelled({"a/1": item}).right_N.tolist() == [False]


def test_words_that_only_together_are_a_number_are_left_out() -> None:
    item = {"text": "2 %", "reference": "two percent", "words": [["2", 0.6], ["%", 0.6]]}
    spaced = {"text": "a.m .", "reference": "am", "words": [["a.", 0.5], ["m", 0.5]]}

    assert len(labelled({"a/1": item})) == 1
    assert len(labelled({"a/1": spaced})) == 0


@pytest.mark.parametrize("name", ["word", "word and utterance"])
def test_a_fit_brings_confidence_to_accuracy(name: str) -> None:
    learnt, fresh = words(6_000, 3.0), words(6_000, 3.0, seed=1)

    made = FITS[name](learnt)

    before, after = reliability(fresh), reliability(fresh, made)
    assert before.expected_error > 0.15
    assert after.expected_error < 0.03
    assert after.mean_confidence == pytest.approx(after.accuracy, abs=0.02)
    assert after.negative_log_likelihood < before.negative_log_likelihood
    groups = [learnt, fresh]
    assert left_out_likelihood(groups, FITS[name]) < left_out_likelihood(groups, FITS["raw"])


def test_what_is_calibrated_already_stays_nearly_as_it_is() -> None:
    learnt = words(20_000, 1.0)

    for fit in (fit_word, fit_word_and_utterance):
        assert fit(learnt)([0.5, 0.7, 0.9]) == pytest.approx([0.5, 0.7, 0.9], abs=0.05)


def test_an_utterance_that_is_heard_badly_makes_its_words_less_sure() -> None:
    draw = np.random.default_rng(0)
    true = ConfidenceMap(word=0.6, utterance=0.9, offset=-0.3)
    company_N = draw.uniform(0.4, 0.95, 20_000)
    raw_N = np.clip(company_N + draw.normal(0, 0.2, len(company_N)), 0.01, 0.99)
    right_N = draw.random(len(raw_N)) < mapped(true, LabelledWords(raw_N, company_N, raw_N > 0))
    found = LabelledWords(raw_N, company_N, right_N)

    made = fit_word_and_utterance(found)

    assert list(made.as_json().values()) == pytest.approx(list(true.as_json().values()), abs=0.1)
    fits = [reliability(found, fit(found)) for fit in (fit_word, fit_word_and_utterance)]
    assert fits[1].negative_log_likelihood < fits[0].negative_log_likelihood


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_whatever_was_heard_a_fit_is_a_rising_map(heard: list[tuple[float, bool]]) -> None:
    found = LabelledWords(
        np.array([raw for raw, _ in heard]),
        np.array([1 - raw for raw, _ in heard]),
        np.array([right for _, right in heard]),
    )

    for fit in FITS.values():
        assert isinstance(fit(found), ConfidenceMap)


def test_every_word_is_in_one_bin() -> None:
    found = words(500, 2.0)

    measured = reliability(found)

    assert sum(count for _, _, count in measured.bins) == measured.words == 500
    assert 0 <= measured.expected_error <= 1


def test_a_sure_and_right_model_has_no_error() -> None:
    sure = LabelledWords(np.ones(3), np.ones(3), np.ones(3, np.bool_))

    assert reliability(sure, IDENTITY).expected_error < 1e-3
    assert len(joined([sure, sure])) == 6


def test_words_that_are_all_sure_and_half_wrong_are_as_sure_as_they_are_right() -> None:
    right_N = np.arange(10_000) % 2 == 0
    sure = LabelledWords(np.full(10_000, 0.9999), np.full(10_000, 0.9999), right_N)

    said_N = mapped(fit_word(sure), sure)

    assert said_N == pytest.approx(np.full(10_000, 0.5), abs=0.01)
