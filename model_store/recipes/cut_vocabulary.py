r"""Leave out of a model the tokens that its language hardly uses.

    python -m model_store.recipes.cut_vocabulary --model DIR --words WORDS.tsv --tokens 16384 --out DIR

The decoder scores every token at every step. `WORDS.tsv` has a word and its share of running text a line.
Each is spelled as it stands in a sentence, at its beginning, in capitals and behind a hyphen; what
spells the most text is kept, with every byte, so that whatever was writable still is, by more tokens.
Ids of other tokens change, weights of those kept do not. Nothing is trained here.
"""

import argparse
import dataclasses
import json
import shutil
import string
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers

from model_store.backbones.moonshine import Moonshine
from model_store.checkpoint import load_checkpoint, save_checkpoint

SPECIAL = ("<unk>", "<s>", "</s>")
FORMS: Mapping[str, float] = {"{lower}": 1.0, "{title}": 0.3, "{upper}": 0.02, "x-{lower}": 0.02}
"""How a word is written, and how often, next to its usual form."""
ENDINGS = (*".,?!;:'\"-%", "...", "'s", "'t", "'ll", "'re", "'ve", "'d", "'m")
ALWAYS = 1.0
"""Share of what is kept whatever the words say."""


def main() -> None:
    """Cut from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "words", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--tokens", type=int, required=True, help="that are left")
    options = parser.parse_args()
    content = json.loads((options.model / "tokenizer.json").read_text(encoding="utf-8"))
    shares = token_shares(content, read_words(options.words))
    kept = kept_ids(content, shares, options.tokens)
    print(f"tokens left spell {share_kept(shares, kept):.6f} of the text by themselves")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "tokenizer.json").write_text(
        json.dumps(cut_tokenizer(content, kept), ensure_ascii=False) + "\n", encoding="utf-8"
    )
    for name in ("decoding.json", "activations.safetensors"):
        if (options.model / name).exists():
            shutil.copy(options.model / name, options.out / name)
    _cut_weights(options.model, kept, options.out)


def read_words(path: Path) -> dict[str, float]:
    """Read words and their shares of running text."""
    lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {word: float(share) for word, share in lines}


def token_shares(content: Mapping[str, Any], words: Mapping[str, float]) -> dict[int, float]:
    """Give how often each token is written, by spelling words in all their forms."""
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
    shares = defaultdict[int, float](float)

    def spell(text: str, share: float) -> None:
        for token in tokenizer.encode(text, add_special_tokens=False).ids:
            shares[token] += share

    for word, share in words.items():
        named = {"lower": word, "title": word[:1].upper() + word[1:], "upper": word.upper()}
        for form, often in FORMS.items():
            spell(form.format(**named), often * share)
    for text in (*string.printable, *ENDINGS, *(f"a{ending}" for ending in ENDINGS)):
        spell(text, ALWAYS)
    return shares


def kept_ids(content: Mapping[str, Any], shares: Mapping[int, float], tokens: int) -> list[int]:
    """Choose the tokens that stay, in their old order.

    Special ones and bytes, then the most written, each with those that the tokenizer puts it together
    from, or it would never be reached.

    Raises:
        ValueError: there are fewer tokens than are to be left.
    """
    vocabulary: dict[str, int] = content["model"]["vocab"]
    if len(vocabulary) < tokens:
        raise ValueError(f"expected at least {tokens} tokens, got {len(vocabulary)}")
    ranks = {pair: rank for rank, pair in enumerate(_merges(content))}
    pieces = {token: piece for piece, token in vocabulary.items()}
    kept = {vocabulary[name] for name in SPECIAL} | {
        token for piece, token in vocabulary.items() if piece.startswith("<0x")
    }
    for token in sorted(pieces, key=lambda token: (-shares.get(token, 0.0), token)):
        parts = {vocabulary[part] for part in _put_together(pieces[token], ranks)}
        wanted = kept | parts | {token}
        if len(wanted) <= tokens:
            kept = wanted
    return sorted(kept)


def _merges(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give the pairs that are merged, first to last; files have them as strings or as lists."""
    pairs = (
        merge.split(" ") if isinstance(merge, str) else merge
        for merge in content["model"]["merges"]
    )
    return [(left, right) for left, right in pairs]


def _put_together(piece: str, ranks: Mapping[tuple[str, str], int]) -> set[str]:
    """Give all that byte-pair encoding makes on the way from letters to a piece."""
    parts = list(piece)
    made = set[str]()
    while pairs := [(ranks[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in ranks]:
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        made.add(parts[at])
    return made | (set(piece) if made else set())


def share_kept(shares: Mapping[int, float], kept: Iterable[int]) -> float:
    """Give the share of the written tokens that are still there."""
    there = set(kept)
    counted = {token: share for token, share in shares.items() if share < ALWAYS}
    return sum(share for token, share in counted.items() if token in there) / sum(counted.values())


def cut_tokenizer(content: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Give a `tokenizer.json` with those tokens alone, numbered from 0."""
    pieces = {token: piece for piece, token in content["model"]["vocab"].items()}
    vocabulary = {pieces[old]: new for new, old in enumerate(kept)}
    merges = [
        f"{left} {right}"
        for left, right in _merges(content)
        if left in vocabulary and right in vocabulary and left + right in vocabulary
    ]
    return {
        **content,
        "added_tokens": [one for one in content["added_tokens"] if one["content"] in SPECIAL],
        "model": {**content["model"], "vocab": vocabulary, "merges": merges},
    }


def _cut_weights(model: Path, kept: Sequence[int], out: Path) -> None:
    checkpoint = load_checkpoint(model)
    if not isinstance(checkpoint.model, Moonshine):
        raise TypeError(f"expected a Moonshine, got a {checkpoint.model.backbone}")
    whole = checkpoint.model
    cut = Moonshine(dataclasses.replace(whole.config, vocabulary=len(kept)))
    state = {
        name: value[list(kept)] if value.shape[:1] == (whole.config.vocabulary,) else value
        for name, value in whole.state_dict().items()
    }
    cut.load_state_dict(state)
    save_checkpoint(cut, checkpoint.catalogue, out, int8=True)


if __name__ == "__main__":
    main()
