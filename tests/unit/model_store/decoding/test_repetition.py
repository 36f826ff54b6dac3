from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.decoding.repetition import (
    LEAST_ADVANCE_S,
    LONGEST_PERIOD,
    PHRASE,
    without_loops,
)

NO, THAT, IS = 7, 8, 9

TOKENS = st.lists(st.integers(0, 3), max_size=40)
SENTENCES = st.lists(st.integers(10, 999), min_size=1, max_size=12, unique=True)
ADVANCES = st.floats(LEAST_ADVANCE_S + 1e-6, 1.0)


@given(TOKENS, st.data())
def test_what_is_kept_is_a_prefix(tokens: list[int], data: st.DataObject) -> None:
    anywhere = st.lists(st.floats(0, 30), min_size=len(tokens), max_size=len(tokens))

    assert 0 <= without_loops(tokens, data.draw(anywhere)) <= len(tokens)


@given(st.lists(st.integers(10, 999), min_size=1, max_size=PHRASE - 1, unique=True), st.data())
def test_a_word_that_is_there_twice_stays(word: list[int], data: st.DataObject) -> None:
    tokens = word * 2
    anywhere = st.lists(st.floats(0, 30), min_size=len(tokens), max_size=len(tokens))

    assert without_loops(tokens, data.draw(anywhere)) == len(tokens)


@given(TOKENS, st.data())
def test_nothing_is_cut_while_attention_advances(tokens: list[int], data: st.DataObject) -> None:
    steps = data.draw(st.lists(ADVANCES, min_size=len(tokens), max_size=len(tokens)))

    assert without_loops(tokens, list(accumulate(steps))) == len(tokens)


@pytest.mark.parametrize(
    ("tokens", "position_s"),
    [
        ([NO, NO, NO], [0.2, 0.5, 0.8]),
        ([THAT, NO, NO, NO, NO, IS], [0.2, 0.5, 0.8, 1.2, 1.6, 2.0]),
        # Measured: 'yes yes yes yes' while attention finds its place in the first words.
        ([NO, NO, NO, NO], [0.70, 0.74, 0.97, 1.24]),
        ([5, 5, 5, 1, 2, 3, 4], [0.97, 1.19, 1.37, 1.6, 1.9, 2.2, 2.5]),
        ([0, 0, 0, 7, 9, 9, 9, 9], [1.15, 1.62, 2.09, 2.56, 3.09, 3.44, 3.77, 4.13]),
    ],
)
def test_words_and_digits_that_are_spoken_again_stay(
    tokens: list[int], position_s: list[float]
) -> None:
    assert without_loops(tokens, position_s) == len(tokens)


@given(SENTENCES, st.integers(1, LONGEST_PERIOD), st.integers(3, 8), st.floats(0, 0.05))
def test_a_loop_that_hardly_advances_is_cut_to_one_copy(
    before: list[int], period: int, copies: int, drift_s: float
) -> None:
    loop = list(range(1000, 1000 + period))
    spoken_s = [0.3 * index for index in range(len(before) + period)]
    looped_s = [
        place + copy * drift_s for copy in range(1, copies) for place in spoken_s[len(before) :]
    ]

    kept = without_loops(before + loop * copies, spoken_s + looped_s)

    assert kept == len(before) + period


def test_a_loop_that_jumps_back_is_cut() -> None:
    assert without_loops([1, 2, NO, NO, NO, NO], [0.3, 0.6, 0.9, 0.5, 0.9, 0.5]) == 3


def test_a_loop_after_words_that_were_spoken_again_keeps_those() -> None:
    tokens = [NO] * 8
    position_s = [0.3, 0.6, 0.9, 0.91, 0.9, 0.91, 0.9, 0.9]

    assert without_loops(tokens, position_s) == 3


def test_a_sentence_that_loops_is_cut_after_its_first_time() -> None:
    sentence = [1, 2, 3, 4, 5]

    assert without_loops(sentence * 3, [0.2, 0.5, 0.9, 1.3, 1.6] * 3) == 5


def test_a_phrase_that_starts_anew_where_it_was_heard_is_cut_also_in_part() -> None:
    phrase, heard_s = [1, 2, 3, 4], [0.2, 0.5, 0.8, 1.1]

    assert without_loops(phrase + phrase, heard_s + heard_s) == 4
    assert without_loops(phrase + phrase[:3], heard_s + heard_s[:3]) == 4


def test_a_phrase_that_is_spoken_twice_stays() -> None:
    phrase = [1, 2, 3]

    assert without_loops(phrase * 2, [0.2, 0.5, 0.8, 1.4, 1.7, 2.0]) == 6
