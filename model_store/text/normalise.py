"""Text as word error rates compare it: one set of rules for references and for every system.

1. Unicode compatibility form, lower case, accents off; typographic apostrophes become `'`.
2. Abbreviations with full stops close up: `U.S.` -> `us`, `p.m.` -> `pm`.
3. Numbers are spelled: `1,234` -> `one thousand two hundred thirty four`, `2nd` -> `second`,
   `3.5` -> `three point five`, `$5` -> `five dollars`, `10%` -> `ten percent`, `&` -> `and`.
   A number that begins with zero or has ten digits and more is read digit by digit.
4. Letters, digits and apostrophes inside a word stay; everything else separates words.
5. The few words of `_SPELLINGS` that are spelled in two ways are spelled in one.

Nothing is removed: hesitations, repeated words and contractions count as they are.
Applying the rules twice changes nothing.
"""

import re
import unicodedata

_APOSTROPHE = re.compile("[\u2018\u2019\u02bc\u0060\u00b4]")
_ABBREVIATION = re.compile(r"\b[a-z](?:\.[a-z])+\b\.?")
_NUMBER = re.compile(r"(\$?)(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(st|nd|rd|th)?\b(%?)")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

_SPELLINGS = {
    "mr": "mister", "mrs": "missus", "dr": "doctor", "ok": "okay", "alright": "all right",
    "centre": "center", "theatre": "theater", "metre": "meter", "litre": "liter",
    "colour": "color", "favour": "favor", "favourite": "favorite", "honour": "honor",
    "labour": "labor", "neighbour": "neighbor", "harbour": "harbor", "grey": "gray",
    "programme": "program", "travelled": "traveled", "travelling": "traveling",
}  # fmt: skip

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = (
    "zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
_SCALES = ((10**6, "million"), (10**3, "thousand"), (100, "hundred"))
_MAX_SPELLED_DIGITS = 9
_IRREGULAR_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip


def normalise(text: str) -> str:
    """Return the words of a text, spelled in one way, with single spaces between them."""
    plain = unicodedata.normalize("NFKD", _APOSTROPHE.sub("'", text)).lower()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = _ABBREVIATION.sub(lambda match: match[0].replace(".", ""), plain)
    plain = _NUMBER.sub(_spelled_number, plain.replace("&", " and ").replace("_", " "))
    words: list[str] = _WORD.findall(plain)
    return " ".join(_SPELLINGS.get(word, word) for word in words)


def _spelled_number(match: re.Match[str]) -> str:
    currency, digits, fraction, ordinal, percent = match.groups(default="")
    digits = digits.replace(",", "")
    words = _cardinal(digits)
    if fraction:
        words += ["point", *(_UNITS[int(digit)] for digit in fraction[1:])]
    elif ordinal:
        words[-1] = _ordinal(words[-1])
    if currency:
        words.append("dollar" if words == ["one"] else "dollars")
    if percent:
        words.append("percent")
    return f" {' '.join(words)} "


def _cardinal(digits: str) -> list[str]:
    if len(digits) > _MAX_SPELLED_DIGITS or (digits[0] == "0" and len(digits) > 1):
        return [_UNITS[int(digit)] for digit in digits]
    return _below_billion(int(digits)) or [_UNITS[0]]


def _below_billion(number: int) -> list[str]:
    for scale, name in _SCALES:
        if number >= scale:
            return [*_below_billion(number // scale), name, *_below_billion(number % scale)]
    if number >= len(_UNITS):
        return [_TENS[number // 10], *_below_billion(number % 10)]
    return [_UNITS[number]] if number else []


def _ordinal(word: str) -> str:
    if word in _IRREGULAR_ORDINALS:
        return _IRREGULAR_ORDINALS[word]
    return f"{word[:-1]}ieth" if word.endswith("y") else f"{word}th"
