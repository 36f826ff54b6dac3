"""What may be asked for as hotwords."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.fake import FakeEngine
from service.errors import HotwordInvalid, HotwordsTooMany, HotwordsUnsupported
from service.scheduling.hotwords import (
    MAX_HOTWORD_CHARS,
    MAX_HOTWORDS,
    MAX_TOTAL_BYTES,
    checked_hotwords,
    expect_support,
    parse_hotwords,
)


@pytest.mark.parametrize(
    ("text", "hotwords"),
    [
        ("", ()),
        (" , ,", ()),
        ("Kovalenko", ("Kovalenko",)),
        ("Kovalenko, Nguyen  Van Anh ,", ("Kovalenko", "Nguyen Van Anh")),
        ("a,b,a", ("a", "b")),
        ("\u65e5\u672c,\u00d3 S\u00failleabh\u00e1in", ("\u65e5\u672c", "\u00d3 S\u00failleabh\u00e1in")),
        ("e\u0301clair", ("\u00e9clair",)),
        ("C++,k8s", ("C++", "k8s")),
    ],
)  # fmt: skip
def test_hotwords_stand_between_commas(text: str, hotwords: tuple[str, ...]) -> None:
    assert parse_hotwords(text) == hotwords


@pytest.mark.parametrize(
    "word", ["a\x00b", "a\nb", "a\tb", "\x1b[2J", "a\u200bb", "\ud800", "\ufffe", "\U0001f642", "-", "..."]
)  # fmt: skip
def test_what_is_no_text_is_refused(word: str) -> None:
    with pytest.raises(HotwordInvalid, match=r"printable text|letter or digit"):
        checked_hotwords([word])


def test_a_hotword_has_a_longest_length() -> None:
    assert checked_hotwords(["x" * MAX_HOTWORD_CHARS])
    with pytest.raises(HotwordInvalid, match="at most 64 characters, got one of 65"):
        checked_hotwords(["x" * (MAX_HOTWORD_CHARS + 1)])


def test_there_is_a_largest_number() -> None:
    words = [f"w{number}" for number in range(MAX_HOTWORDS + 1)]

    assert len(checked_hotwords(words[:-1])) == MAX_HOTWORDS
    with pytest.raises(HotwordsTooMany, match="at most 100 hotwords, got 101"):
        checked_hotwords(words)


def test_all_together_have_a_largest_length() -> None:
    words = [f"{number:02}" + "x" * 60 for number in range(70)]

    with pytest.raises(HotwordsTooMany, match="at most 4096 bytes of hotwords in all, got 4340"):
        checked_hotwords(words)


@given(st.text(max_size=300))
def test_whatever_is_taken_is_within_the_limits(text: str) -> None:
    try:
        hotwords = parse_hotwords(text)
    except (HotwordInvalid, HotwordsTooMany):
        return
    assert len(hotwords) <= MAX_HOTWORDS
    assert sum(len(word.encode()) for word in hotwords) <= MAX_TOTAL_BYTES
    assert all(word.isprintable() and word == word.strip() and word for word in hotwords)
    assert checked_hotwords(hotwords) == hotwords


def test_a_model_without_a_decoder_takes_none() -> None:
    info = FakeEngine().load()

    expect_support(("word",), info)
    expect_support((), replace(info, takes_hotwords=False))
    with pytest.raises(HotwordsUnsupported, match="'fake-elastic' writes without a decoder"):
        expect_support(("word",), replace(info, takes_hotwords=False))
