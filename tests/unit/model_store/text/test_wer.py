import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.text import (
    WordErrors,
    bootstrap_interval,
    corpus_wer,
    matched_words,
    normalised_word_errors,
    paired_difference_interval,
    paired_ratio_interval,
    total,
    word_errors,
)

texts = st.lists(st.sampled_from("abc"), max_size=8).map(" ".join)
utterances = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 20)).map(
        lambda pair: WordErrors(pair[0], 0, 0, pair[1])
    ),
    min_size=1,
    max_size=30,
)


def distance(expected: list[str], got: list[str]) -> int:
    """The definition, without a table."""
    if not expected or not got:
        return len(expected) + len(got)
    return min(
        distance(expected[1:], got[1:]) + (expected[0] != got[0]),
        distance(expected[1:], got) + 1,
        distance(expected, got[1:]) + 1,
    )


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("the cat sat", "the cat sat", WordErrors(0, 0, 0, 3)),
        ("the cat sat", "the bat sat", WordErrors(1, 0, 0, 3)),
        ("the cat sat", "the sat", WordErrors(0, 1, 0, 3)),
        ("the cat sat", "the cat cat sat", WordErrors(0, 0, 1, 3)),
        ("the cat sat", "", WordErrors(0, 3, 0, 3)),
        ("", "the cat", WordErrors(0, 0, 2, 0)),
        ("", "", WordErrors(0, 0, 0, 0)),
        ("no no no", "no no", WordErrors(0, 1, 0, 3)),
    ],
)
def test_errors_are_told_apart(reference: str, hypothesis: str, errors: WordErrors) -> None:
    assert word_errors(reference, hypothesis) == errors


@given(reference=texts.filter(lambda t: len(t) < 8), hypothesis=texts.filter(lambda t: len(t) < 8))
def test_the_alignment_is_the_cheapest(reference: str, hypothesis: str) -> None:
    errors = word_errors(reference, hypothesis)

    assert errors.errors == distance(reference.split(), hypothesis.split())


@given(reference=texts, hypothesis=texts)
def test_the_counts_add_up(reference: str, hypothesis: str) -> None:
    errors = word_errors(reference, hypothesis)

    hits = errors.reference_words - errors.substitutions - errors.deletions
    assert hits >= 0
    assert hits + errors.substitutions + errors.insertions == len(hypothesis.split())


@given(reference=texts, hypothesis=texts)
def test_swapping_the_texts_keeps_the_number_of_errors(reference: str, hypothesis: str) -> None:
    assert word_errors(reference, hypothesis).errors == word_errors(hypothesis, reference).errors


def test_raw_errors_count_case_and_punctuation_and_normalised_ones_do_not() -> None:
    assert word_errors("Hello, World!", "hello world").errors == 2
    assert normalised_word_errors("Hello, World!", "hello world").errors == 0


def test_the_corpus_rate_weighs_by_words() -> None:
    pairs = [("One two three.", "one two three"), ("four", "five")]

    assert corpus_wer(pairs) == pytest.approx(1 / 4)
    assert corpus_wer(pairs, raw=True) == pytest.approx(3 / 4)
    assert corpus_wer([]) == 0.0


def test_errors_of_utterances_add_up() -> None:
    assert total([WordErrors(1, 2, 3, 10), WordErrors(1, 0, 0, 5)]) == WordErrors(2, 2, 3, 15)


def test_the_rate_of_words_that_nobody_said_is_finite() -> None:
    assert word_errors("", "the cat").rate == 2.0


@given(utterances)
def test_the_interval_lies_between_the_best_and_the_worst_utterance(
    errors: list[WordErrors],
) -> None:
    low, high = bootstrap_interval(errors, repeats=50)

    assert min(one.rate for one in errors) - 1e-9 <= low <= high
    assert high <= max(one.rate for one in errors) + 1e-9


@given(utterances)
def test_one_seed_gives_one_interval(errors: list[WordErrors]) -> None:
    assert bootstrap_interval(errors, repeats=50) == bootstrap_interval(errors, repeats=50)


def test_the_interval_has_the_width_that_statistics_expect() -> None:
    errors = [WordErrors(index % 2, 0, 0, 1) for index in range(400)]

    low, high = bootstrap_interval(errors, repeats=4000)

    # A coin tossed 400 times: 0.5 +- 1.96 * 0.5 / 20.
    assert low == pytest.approx(0.5 - 0.049, abs=0.006)
    assert high == pytest.approx(0.5 + 0.049, abs=0.006)


def test_more_confidence_is_a_wider_interval() -> None:
    errors = [WordErrors(index % 3, 0, 0, 5) for index in range(50)]

    narrow, wide = bootstrap_interval(errors, confidence=0.5), bootstrap_interval(errors)

    assert wide.low < narrow.low < narrow.high < wide.high


@given(utterances)
def test_a_system_equals_itself(errors: list[WordErrors]) -> None:
    assert paired_ratio_interval(errors, errors, repeats=50) == (1.0, 1.0)
    assert paired_difference_interval(errors, errors, repeats=50) == (0.0, 0.0)


def test_pairing_finds_a_small_difference_that_separate_intervals_hide() -> None:
    baseline = [WordErrors(index % 10, 0, 0, 20) for index in range(60)]
    ours = [WordErrors(one.substitutions + 1, 0, 0, 20) for one in baseline]

    difference = paired_difference_interval(ours, baseline)
    ratio = paired_ratio_interval(ours, baseline)

    assert difference.low == pytest.approx(1 / 20) == difference.high
    assert 1.1 < ratio.low < 5.5 / 4.5 < ratio.high < 1.4
    assert bootstrap_interval(ours).low < bootstrap_interval(baseline).high


def test_a_ratio_to_no_errors_is_infinite() -> None:
    none, some = [WordErrors(0, 0, 0, 5)] * 3, [WordErrors(1, 0, 0, 5)] * 3

    assert paired_ratio_interval(some, none) == (math.inf, math.inf)
    assert paired_ratio_interval(none, none) == (1.0, 1.0)


def test_systems_that_heard_other_utterances_are_not_compared() -> None:
    with pytest.raises(AssertionError, match="same utterances"):
        paired_ratio_interval([WordErrors(0, 0, 0, 5)], [])
    with pytest.raises(AssertionError, match="same references"):
        paired_difference_interval([WordErrors(0, 0, 0, 5)], [WordErrors(0, 0, 0, 6)])


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_words_that_match_are_those_that_are_no_errors(expected: list[str], got: list[str]) -> None:
    errors = word_errors(" ".join(expected), " ".join(got))

    matched = matched_words(expected, got)

    assert len(matched) == len(got)
    assert sum(matched) == len(expected) - errors.substitutions - errors.deletions


def test_a_wrong_word_is_not_found() -> None:
    found = matched_words(["the", "cat", "sat", "down"], ["the", "bat", "sat", "sat", "down"])

    assert [found[0], found[1], found[4]] == [True, False, True]
    assert sum(found[2:4]) == 1
