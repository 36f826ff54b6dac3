"""From what a caller writes to a list of hotwords, and how long such a list may be."""

import unicodedata
from collections.abc import Iterable

from service.engine.base import ModelInfo
from service.errors import HotwordInvalid, HotwordsTooMany, HotwordsUnsupported

MAX_HOTWORDS = 100
MAX_HOTWORD_CHARS = 64
MAX_TOTAL_BYTES = 4096
"""Of all hotwords as UTF-8; no token is shorter than a byte, and each has three spellings at most."""


def parse_hotwords(text: str) -> tuple[str, ...]:
    """Read hotwords as they stand in a query or on a command line, between commas.

    Raises:
        HotwordInvalid: one is too long, or holds what no text has.
        HotwordsTooMany: there are more of them, or of their letters, than are taken.
    """
    return checked_hotwords(text.split(","))


def checked_hotwords(words: Iterable[str]) -> tuple[str, ...]:
    """Check each hotword and all of them together; empty ones and repeated ones are left out.

    Raises:
        HotwordInvalid: one is too long, or holds what no text has.
        HotwordsTooMany: there are more of them, or of their letters, than are taken.
    """
    kept = tuple(dict.fromkeys(text for word in words if (text := _checked(word))))
    if len(kept) > MAX_HOTWORDS:
        raise HotwordsTooMany(f"expected at most {MAX_HOTWORDS} hotwords, got {len(kept)}")
    num_bytes = sum(len(word.encode()) for word in kept)
    if num_bytes > MAX_TOTAL_BYTES:
        raise HotwordsTooMany(
            f"expected at most {MAX_TOTAL_BYTES} bytes of hotwords in all, got {num_bytes}"
        )
    return kept


def expect_support(hotwords: tuple[str, ...], info: ModelInfo) -> None:
    """Refuse hotwords where they would change nothing.

    Raises:
        HotwordsUnsupported: the model's decoder takes none.
    """
    if hotwords and not info.takes_hotwords:
        raise HotwordsUnsupported(
            f"expected no hotwords, got {len(hotwords)}: {info.name!r} writes without a decoder"
        )


def _checked(word: str) -> str:
    stripped = word.strip()
    if len(stripped) > MAX_HOTWORD_CHARS:
        raise HotwordInvalid(
            f"expected hotwords of at most {MAX_HOTWORD_CHARS} characters, got one of "
            f"{len(stripped)}"
        )
    text = unicodedata.normalize("NFC", stripped)
    # Half a surrogate pair, which JSON can bring, is not printable either.
    if not text.isprintable():
        raise HotwordInvalid("expected hotwords of printable text, got a character that is none")
    if text and not any(map(str.isalnum, text)):
        raise HotwordInvalid("expected a letter or digit in every hotword, got one without")
    return " ".join(text.split())
