"""Vocabularies for models that score every frame: trained pieces, and published letters.

Both are `tokenizers` objects, so that a checkpoint's `tokenizer.json` says all there is to say.
"""

from collections.abc import Iterable, Mapping

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

BLANK, START, END = range(3)
"""The first ids of a trained vocabulary."""

SPECIAL = ("<blank>", "<s>", "</s>")
SPACE_MARK = "\u2581"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'"
WORD_DELIMITER = "|"


def train_bpe(texts: Iterable[str], vocabulary: int = 256) -> tokenizers.Tokenizer:
    """Train byte-pair pieces on transcripts, in lower case, without punctuation and accents.

    Args:
        texts: transcripts.
        vocabulary: pieces, the three special ones among them; few texts may give fewer.
    """
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace("\u2019", "'"),
            normalizers.Replace(Regex(f"[^{LETTERS}]+"), " "),
            normalizers.Strip(),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement=SPACE_MARK, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=[SPACE_MARK, *LETTERS],
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def letters_vocabulary(ids: Mapping[str, int]) -> tokenizers.Tokenizer:
    """Make a tokenizer of a published `vocab.json`: one letter a token, words apart by `|`.

    Args:
        ids: id of each token; those in brackets (`<pad>`, `[UNK]`) have no text.
    """
    special = [name for name in ids if len(name) > 1 and name[0] in "<["]
    renamed = {SPACE_MARK if name == WORD_DELIMITER else name: place for name, place in ids.items()}
    made = tokenizers.Tokenizer(models.BPE(renamed, []))
    made.normalizer = normalizers.Sequence(
        [_case_of(renamed), normalizers.Strip(), normalizers.Replace(" ", SPACE_MARK)]
    )
    made.add_special_tokens([AddedToken(name, special=True) for name in special])
    return made


def _case_of(ids: Mapping[str, int]) -> normalizers.Normalizer:
    """Bring text to the case that the letters are in; upper case has no normaliser of its own."""
    lower = [letter for letter in LETTERS if letter.isalpha()]
    if not any(letter.upper() in ids for letter in lower):
        return normalizers.Lowercase()
    if any(letter in ids for letter in lower):
        return normalizers.NFC()
    return normalizers.Sequence([normalizers.Replace(c, c.upper()) for c in lower])
