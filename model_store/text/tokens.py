"""Tokens and words: an exact reading of `tokenizer.json`.

Two families are read: SentencePiece-like vocabularies with byte fallback (Moonshine) and byte-level
ones (Whisper). Every token is a string of bytes; text is what the joined bytes say. So a letter
that is spelled by several tokens is whole again, and a word knows exactly which tokens spell it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers

_SPACE_MARK = "\u2581"  # how SentencePiece writes a space
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_SPACES = b" \t\r\n"
_WORD = re.compile(rb"[^ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class WordPiece:
    """A word and the tokens [start_token, end_token) that spell it, punctuation included."""

    text: str
    start_token: int
    end_token: int


class Tokenizer:
    """Encodes and decodes text; special tokens have no text."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner
        self._token_bytes = _token_bytes(inner)

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Read a `tokenizer.json`."""
        return cls(tokenizers.Tokenizer.from_file(str(path)))

    def encode(self, text: str) -> list[int]:
        """Give the ids of a text, without start or end token."""
        return self._inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids, without leading or trailing space.

        Bytes that are no text (a letter cut in the middle) become U+FFFD.
        """
        return _text(b"".join(self._bytes_of(token) for token in ids)).strip()

    def decode_words(self, ids: Sequence[int]) -> list[WordPiece]:
        """Group tokens into words at spaces.

        Returns:
            The words of `decode(ids)` in order. A token of spaces belongs to the word after it,
            a special token at most to the word it stands in, and a token that ends one word and
            begins the next to the first.
        """
        pieces = [self._bytes_of(token) for token in ids]
        owners = [index for index, piece in enumerate(pieces) for _ in piece]
        words: list[WordPiece] = []
        free = 0  # the first token that is in no word yet
        for match in _WORD.finditer(b"".join(pieces)):
            first, last = owners[match.start()], owners[match.end() - 1]
            first = min(max(first, free), last)
            while first > free and pieces[first - 1] and not pieces[first - 1].strip(_SPACES):
                first -= 1
            free = last + 1
            words.append(WordPiece(_text(match[0]), first, free))
        return words

    def _bytes_of(self, token: int) -> bytes:
        # A model's output may be wider than its vocabulary (padded to a round number).
        return self._token_bytes[token] if 0 <= token < len(self._token_bytes) else b""


def _token_bytes(inner: tokenizers.Tokenizer) -> tuple[bytes, ...]:
    added = inner.get_added_tokens_decoder()
    decoder = json.loads(inner.to_str())["decoder"] or {}
    letters = _byte_letters() if decoder.get("type") == "ByteLevel" else None
    table: list[bytes] = []
    for token in range(max(inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1):
        piece = inner.id_to_token(token) or ""
        if token in added:
            table.append(b"" if added[token].special else piece.encode())
        elif letters is not None:
            table.append(bytes(letters[letter] for letter in piece))
        elif match := _BYTE_TOKEN.fullmatch(piece):
            table.append(bytes([int(match[1], 16)]))
        else:
            table.append(piece.replace(_SPACE_MARK, " ").encode())
    return tuple(table)


def _byte_letters() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for.

    Source: `bytes_to_unicode` of openai/gpt-2: printable Latin-1 stands for itself, the other
    bytes follow from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + index): byte for index, byte in enumerate(others)}


def _text(spelled: bytes) -> str:
    return spelled.decode("utf-8", errors="replace")
