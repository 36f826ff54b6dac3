import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.text import normalise


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", "hello world"),
        ("  two\tspaces \n", "two spaces"),
        ("it\u2019s O'Brien's 'quoted' dogs'", "it's o'brien's quoted dogs"),
        ("Al-Fayoum, twenty-one", "al fayoum twenty one"),
        ("na\u00efve caf\u00e9 \u00c5ngstr\u00f6m", "naive cafe angstrom"),
        ("the U.S. at 5 p.m. and the U.S", "the us at five pm and the us"),
        ("0 7 13 20 42 100", "zero seven thirteen twenty forty two one hundred"),
        ("115 1,234", "one hundred fifteen one thousand two hundred thirty four"),
        ("12000305", "twelve million three hundred five"),
        ("007 1234567890", "zero zero seven one two three four five six seven eight nine zero"),
        ("1st 2nd 3rd 12th 20th 21st", "first second third twelfth twentieth twenty first"),
        ("3.5 and 10%", "three point five and ten percent"),
        ("$1 $5 salt & pepper", "one dollar five dollars salt and pepper"),
        ("at 10:30", "at ten thirty"),
        ("b2b in the 1920s", "b2b in the 1920s"),
        ("Mr. Grey said OK", "mister gray said okay"),
        ("alright", "all right"),
        ("no no no, um", "no no no um"),
        ("snake_case", "snake case"),
        ("...", ""),
        ("", ""),
    ],
)
def test_words_are_spelled_in_one_way(text: str, words: str) -> None:
    assert normalise(text) == words


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)

    assert normalise(once) == once


@given(st.text(st.sampled_from("aZ09.,$%&'\u2019-_ stndrhUSpm")))
def test_normalising_text_with_many_numbers_twice_changes_nothing(text: str) -> None:
    once = normalise(text)

    assert normalise(once) == once


@given(st.integers(0, 999_999_999))
def test_a_number_reads_the_same_with_and_without_commas(number: int) -> None:
    assert normalise(f"{number:,}") == normalise(str(number))


@given(st.text())
def test_words_hold_letters_digits_and_inner_apostrophes_only(text: str) -> None:
    words = normalise(text).split(" ")

    assert all(word.replace("'", "").isalnum() for word in words if word)
    assert all(word == word.strip("'") for word in words)
