import re
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from model_store.text import Tokenizer, WordPiece

SENTENCES = [
    "the cat sat on the mat",
    "no no no",
    "it's a na\u00efve caf\u00e9",
    "the theatre then",
]


def sentencepiece_like() -> tokenizers.Tokenizer:
    """As Moonshine's: spaces are U+2581, what is not in the vocabulary is spelled in bytes."""
    letters = sorted({letter for text in SENTENCES for letter in text if letter not in " \u00ef"})
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    pieces += [*letters, "th", "\u2581th", "\u2581the", "\u2581\u2581", "at", "no", "\u2581no"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("t", "h"), ("\u2581", "th"), ("\u2581th", "e"), ("\u2581", "\u2581"), ("a", "t")]
    merges += [("n", "o"), ("\u2581", "no")]
    inner = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>")
    )
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return inner


def byte_level() -> tokenizers.Tokenizer:
    """As Whisper's: every byte is a letter."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=["<|endoftext|>"],
    )
    inner.train_from_iterator(SENTENCES, trainer)
    inner.add_tokens([AddedToken("<|0.00|>", special=False, normalized=False)])
    return inner


@pytest.fixture(scope="module", params=[sentencepiece_like, byte_level])
def inner(request: pytest.FixtureRequest) -> tokenizers.Tokenizer:
    return request.param()


@pytest.fixture(scope="module")
def tokenizer(inner: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer(inner)


@pytest.fixture(scope="module")
def moonshine() -> Tokenizer:
    return Tokenizer(sentencepiece_like())


def ids_of(inner: tokenizers.Tokenizer, *pieces: str) -> list[int]:
    vocabulary = inner.get_vocab(with_added_tokens=True)
    return [vocabulary[piece] for piece in pieces]


@given(text=st.text())
def test_text_comes_back_as_the_reference_decodes_it(
    inner: tokenizers.Tokenizer, tokenizer: Tokenizer, text: str
) -> None:
    ids = tokenizer.encode(text)

    assert tokenizer.decode(ids) == inner.decode(ids).strip()


@given(text=st.text(st.sampled_from("thecasonm' \u00e9\u4e2d\U0001f389"), max_size=40))
def test_words_are_the_text_between_spaces(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)

    words = tokenizer.decode_words(ids)

    assert [word.text for word in words] == text.split()


@given(ids=st.lists(st.integers(0, 320), max_size=30))
def test_words_of_any_ids_are_the_decoded_text(tokenizer: Tokenizer, ids: list[int]) -> None:
    words = tokenizer.decode_words(ids)

    spoken = re.split(r"[ \t\r\n]+", tokenizer.decode(ids).strip(" \t\r\n"))
    assert " ".join(word.text for word in words).split() == " ".join(spoken).split()


@given(ids=st.lists(st.integers(0, 320), max_size=30))
def test_token_ranges_follow_each_other(tokenizer: Tokenizer, ids: list[int]) -> None:
    words = tokenizer.decode_words(ids)

    edges = [edge for word in words for edge in (word.start_token, word.end_token)]
    assert edges == sorted(edges)
    assert all(word.start_token < word.end_token for word in words)
    assert all(0 <= edge <= len(ids) for edge in edges)


@given(text=st.text(st.sampled_from("thecasonm' \u00e9\u4e2d\U0001f389"), max_size=40))
def test_the_tokens_of_a_word_spell_it(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)

    for word in tokenizer.decode_words(ids):
        assert tokenizer.decode(ids[word.start_token : word.end_token]) == word.text


def test_a_letter_spelled_in_bytes_is_one_word_with_its_tokens(moonshine: Tokenizer) -> None:
    ids = moonshine.encode("no \U0001f389 no")

    assert moonshine.decode_words(ids) == [
        WordPiece("no", 0, 1),
        WordPiece("\U0001f389", 1, 6),  # the space and four bytes
        WordPiece("no", 6, 7),
    ]


def test_words_said_twice_stay_apart(tokenizer: Tokenizer) -> None:
    words = tokenizer.decode_words(tokenizer.encode("no no no"))

    assert [word.text for word in words] == ["no", "no", "no"]


def test_special_tokens_have_no_text_and_no_word(moonshine: Tokenizer) -> None:
    ids = [1, *moonshine.encode("the no"), 2]

    assert moonshine.decode(ids) == "the no"
    assert moonshine.decode_words(ids) == [WordPiece("the", 1, 2), WordPiece("no", 2, 3)]


def test_encoding_adds_no_special_token(moonshine: Tokenizer) -> None:
    assert 1 not in moonshine.encode("the no")


def test_a_token_that_is_added_but_not_special_has_its_text() -> None:
    inner = byte_level()

    assert Tokenizer(inner).decode(ids_of(inner, "<|0.00|>", "no")) == "<|0.00|>no"


def test_half_a_letter_is_a_replacement_mark(moonshine: Tokenizer) -> None:
    inner = sentencepiece_like()
    ids = ids_of(inner, "\u2581", "<0xF0>", "<0x9F>", "\u2581no")

    assert moonshine.decode(ids) == "\ufffd no"
    assert moonshine.decode_words(ids) == [WordPiece("\ufffd", 0, 3), WordPiece("no", 3, 4)]


def test_ids_past_the_vocabulary_have_no_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([100_000, -1]) == ""
    assert tokenizer.decode_words([100_000]) == []


def test_a_tokenizer_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    sentencepiece_like().save(str(path))

    tokenizer = Tokenizer.from_file(path)

    assert tokenizer.decode(tokenizer.encode("the cat sat")) == "the cat sat"
