"""The tree of hotwords, and which token is chosen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.decoding.hotwords import (
    LISTS_KEPT,
    Bonus,
    Floats,
    HotwordLists,
    Hotwords,
    Ints,
    variants,
)

END = 0
BONUS = Bonus(first=1.0, further=3.0)
TOKENS = st.integers(1, 9)
SPELLINGS = st.lists(st.lists(TOKENS, max_size=5), max_size=6)


def offered(hotwords: Hotwords, before: Sequence[int], *, begins: bool = True) -> dict[int, float]:
    tokens, bonuses = hotwords.candidates(before, begins=begins)
    return dict(zip(tokens.tolist(), bonuses.tolist(), strict=True))


def chosen(
    hotwords: Hotwords, before: Sequence[int], logprobs: dict[int, float]
) -> tuple[int, float]:
    likeliest = max(logprobs, key=lambda token: logprobs[token])

    def of(token_C: Ints) -> Floats:
        return np.array([logprobs.get(int(token), -30.0) for token in token_C], np.float32)

    token, logprob = hotwords.choose(before, (likeliest, logprobs[likeliest]), of, END)
    assert logprob == pytest.approx(logprobs[token])
    return token, logprob


def refused(_token_C: Ints) -> Floats:
    raise AssertionError("expected no token to be asked about")


def test_first_and_further_tokens_have_their_own_bonuses() -> None:
    hotwords = Hotwords([[1, 2, 3], [4]], BONUS)

    assert offered(hotwords, []) == {1: 1.0, 4: 1.0}
    assert offered(hotwords, [7, 1]) == {1: 1.0, 4: 1.0, 2: 3.0}
    assert offered(hotwords, [7, 1, 2]) == {1: 1.0, 4: 1.0, 3: 3.0}
    assert offered(hotwords, [7, 1, 2, 3]) == {1: 1.0, 4: 1.0}


def test_a_word_that_is_not_gone_on_with_is_begun_no_more() -> None:
    hotwords = Hotwords([[1, 2, 3]], BONUS)

    assert offered(hotwords, [1, 9]) == {1: 1.0}
    assert offered(hotwords, [1, 2, 9]) == {1: 1.0}


def test_a_space_begins_no_word_and_what_follows_it_does() -> None:
    """Some tokenizers write a space of its own before every digit, whoever's number it is."""
    hotwords = Hotwords([[5, 1, 2], [4]], BONUS, spaces={5})

    assert offered(hotwords, []) == {4: 1.0}
    assert offered(hotwords, [7, 5]) == {4: 1.0, 1: 1.0}
    assert offered(hotwords, [7, 5], begins=False) == {}
    assert offered(hotwords, [7, 5, 1]) == {4: 1.0, 2: 3.0}
    assert chosen(hotwords, [5], {8: -0.1, 1: -3.9})[0] == 8


def test_words_with_a_common_beginning_share_it() -> None:
    hotwords = Hotwords([[1, 2], [1, 5, 6], [1]], BONUS)

    assert offered(hotwords, [1], begins=False) == {2: 3.0, 5: 3.0}


def test_a_word_may_begin_inside_another() -> None:
    """Where the second turns out to be meant, nothing of it is lost."""
    hotwords = Hotwords([[1, 2, 3], [2, 4]], BONUS)

    assert offered(hotwords, [1, 2], begins=False) == {3: 3.0, 4: 3.0}


def test_a_token_that_begins_one_word_and_goes_on_with_another_has_the_larger_bonus() -> None:
    assert offered(Hotwords([[1, 1]], BONUS), [1]) == {1: 3.0}


def test_a_near_miss_becomes_the_hotword_and_keeps_its_own_log_probability() -> None:
    hotwords = Hotwords([[1, 2]], BONUS)

    assert chosen(hotwords, [], {8: -0.6, 1: -1.5}) == (1, pytest.approx(-1.5))
    assert chosen(hotwords, [1], {8: -0.2, 2: -3.1}) == (2, pytest.approx(-3.1))


def test_what_the_model_is_sure_of_stays() -> None:
    hotwords = Hotwords([[1, 2]], BONUS)

    assert chosen(hotwords, [], {8: -0.6, 1: -1.7})[0] == 8
    assert chosen(hotwords, [1], {8: -0.1, 2: -3.2})[0] == 8


def test_of_two_hotwords_the_likelier_is_taken() -> None:
    assert chosen(Hotwords([[1], [2]], BONUS), [], {8: -0.7, 1: -1.5, 2: -1.2})[0] == 2


def test_the_models_own_choice_has_its_bonus_too() -> None:
    assert chosen(Hotwords([[1, 2], [3]], BONUS), [], {1: -0.7, 3: -0.8})[0] == 1


def test_no_hotword_begins_instead_of_the_end_but_one_that_is_begun_goes_on() -> None:
    hotwords = Hotwords([[1, 2]], BONUS)

    assert chosen(hotwords, [8], {END: -0.7, 1: -0.8})[0] == END
    assert chosen(hotwords, [8, 1], {END: -0.7, 2: -0.8})[0] == 2


def test_nothing_is_asked_where_no_bonus_can_change_the_choice() -> None:
    sure = math.log(0.9)

    assert Hotwords([[1]], BONUS).choose([], (8, sure), refused, END) == (8, sure)
    assert Hotwords([], BONUS).choose([], (8, -3.0), refused, END) == (8, -3.0)
    assert Hotwords([[1]], BONUS).choose([], (8, 0.0), refused, END) == (8, 0.0)


@given(
    spellings=SPELLINGS,
    before=st.lists(TOKENS, max_size=8),
    scores=st.lists(st.floats(-12, 0), min_size=10, max_size=10),
)
def test_the_choice_is_that_of_the_boosted_scores(
    spellings: list[list[int]], before: list[int], scores: list[float]
) -> None:
    norm = math.log(sum(map(math.exp, scores)))
    logprobs = {token: score - norm for token, score in enumerate(scores)}
    hotwords = Hotwords(spellings, BONUS)
    likeliest = max(logprobs, key=lambda token: logprobs[token])
    bonuses = offered(hotwords, before, begins=likeliest != END)

    token, _ = chosen(hotwords, before, logprobs)

    boosted = {one: logprob + bonuses.get(one, 0.0) for one, logprob in logprobs.items()}
    assert boosted[token] == pytest.approx(max(boosted.values()), abs=1e-5)


@given(
    spellings=st.lists(st.lists(st.integers(20, 29), min_size=1, max_size=4), max_size=5),
    before=st.lists(TOKENS, max_size=8),
    scores=st.lists(st.floats(-12, 0), min_size=10, max_size=10),
)
def test_words_that_nobody_would_say_change_nothing(
    spellings: list[list[int]], before: list[int], scores: list[float]
) -> None:
    norm = math.log(sum(map(math.exp, scores)))
    logprobs = {token: score - norm for token, score in enumerate(scores)}
    likeliest = max(logprobs, key=lambda token: logprobs[token])

    assert chosen(Hotwords(spellings, BONUS), before, logprobs)[0] == likeliest


@given(spellings=SPELLINGS, before=st.lists(TOKENS, max_size=12))
def test_only_as_many_tokens_count_as_the_longest_word_has(
    spellings: list[list[int]], before: list[int]
) -> None:
    hotwords = Hotwords(spellings, BONUS)
    longest = max(map(len, spellings), default=0)

    tail = before[max(0, len(before) - longest) :] if longest else []
    assert offered(hotwords, before) == offered(hotwords, tail)


@dataclass
class Letters:
    """A letter a token, a space before each word as its own; `?` cannot be written."""

    asked: list[str] = field(default_factory=list[str])

    def encode(self, text: str) -> list[int]:
        self.asked.append(text)
        return [ord(letter) for letter in f" {text}"]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids)).replace("?", "").strip()


def spelled(hotwords: Hotwords | None, before: str = "") -> set[str]:
    assert hotwords is not None
    return {chr(token) for token in offered(hotwords, list(map(ord, before)))}


def test_a_word_begins_with_its_space_and_may_be_capitalised() -> None:
    hotwords = HotwordLists(Letters()).of(["ada"])

    assert spelled(hotwords, "x") == set()
    assert spelled(hotwords, "x ") == {"a", "A"}
    assert spelled(hotwords, "x A") == {"d"}


def test_a_word_that_the_tokens_cannot_write_is_left_out() -> None:
    assert HotwordLists(Letters()).of(["a?b"]) is None
    assert spelled(HotwordLists(Letters()).of(["a?b", "c"]), "x ") == {"c", "C"}


@pytest.mark.parametrize("words", [[], [" "], ["", "\t"]])
def test_no_words_are_no_hotwords(words: list[str]) -> None:
    assert HotwordLists(Letters()).of(words) is None


def test_the_tree_of_a_list_is_made_once() -> None:
    letters = Letters()
    lists = HotwordLists(letters)

    first, asked = lists.of(["ada", "bo"]), len(letters.asked)

    assert lists.of(["ada", "bo"]) is first
    assert len(letters.asked) == asked


def test_of_many_lists_the_latest_are_kept() -> None:
    lists = HotwordLists(Letters())
    first, second = lists.of(["a"]), lists.of(["b"])
    for number in range(LISTS_KEPT - 2):
        lists.of([f"w{number}"])
    assert lists.of(["a"]) is first
    lists.of(["one more"])

    assert lists.of(["a"]) is first
    assert lists.of(["b"]) is not second


@pytest.mark.parametrize(
    ("word", "ways"),
    [
        ("ada", ("ada", "Ada")),
        ("Ada", ("Ada",)),
        ("ada lovelace", ("ada lovelace", "Ada lovelace", "Ada Lovelace")),
        ("  van  Gogh ", ("van Gogh", "Van Gogh")),
        ("kubeCTL", ("kubeCTL", "KubeCTL")),
        ("\u00f3", ("\u00f3", "\u00d3")),
    ],
)
def test_a_word_is_written_as_it_is_and_with_capitals(word: str, ways: tuple[str, ...]) -> None:
    assert variants(word) == ways
