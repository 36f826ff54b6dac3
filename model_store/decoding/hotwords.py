"""Hotwords: words a caller expects, which a decoder writes where it nearly would have by itself.

Each hotword is a path of tokens in a prefix tree. Before a token is chosen, those that begin a
hotword, and those that go on with one that is begun, have a bonus added to their log probability:

    root --" K"--> --"ov"--> --"alen"--> --"ko"-->      " K" has `first`, the others `further`
      '---" N"--> --"gu"--> --"yen"-->

A greedy decoder keeps one text and cannot take a bonus back that it has acted on. So the first
token has the smaller one: it decides only where the model itself was in doubt, and a word that was
begun and is not gone on with costs what that doubt was worth. A token of nothing but space, which
some tokenizers write before a digit, begins no word: it has no bonus, and the one behind it `first`.
Needs no torch.

Source: Zhao et al., Shallow-Fusion End-to-End Contextual Biasing, Interspeech 2019: biasing before
the choice, by subword, every prefix with its share of the bonus. Le et al., Contextualized
Streaming End-to-End Speech Recognition with Trie-Based Deep Biasing and Shallow Fusion, Interspeech
2021, arXiv 2104.02194, has the tree; both decode with a beam. Nothing here is trained, as in
tree-constrained pointer generators (Sun et al., arXiv 2109.00627).

Dimensions: C = candidates.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
LogprobsOf: TypeAlias = Callable[[Ints], Floats]
"""Gives the natural logarithm of the probability that each of some tokens comes next."""

WORD_BEFORE = "a"
"""Hotwords are split into tokens as they stand after this, which is how they begin a word."""

LISTS_KEPT = 64
"""Lists of hotwords whose trees are kept: a stream asks for the same one at every update."""


@dataclass(frozen=True, slots=True)
class Bonus:
    """What is added to log probabilities.

    Args:
        first: of a token that begins a hotword.
        further: of one that goes on with it.
    """

    first: float = 2.0
    further: float = 4.0


class Speller(Protocol):
    """What splits text into tokens."""

    def encode(self, text: str) -> list[int]: ...  # noqa: D102 as in Tokenizer
    def decode(self, ids: Sequence[int]) -> str: ...  # noqa: D102


class Node(dict[int, "Node"]):
    """Which tokens go on from here, and where to."""


class Hotwords:
    """A list of hotwords, as a tree of tokens.

    Args:
        spellings: tokens of each hotword; those without a token are left out.
        bonus: what is added.
        spaces: tokens of nothing but space.
    """

    def __init__(
        self,
        spellings: Iterable[Sequence[int]],
        bonus: Bonus | None = None,
        spaces: Collection[int] = (),
    ) -> None:
        self._bonus = bonus or Bonus()
        self._spaces = spaces
        self._root = Node()
        self._longest = 0
        for tokens in spellings:
            node = self._root
            for token in tokens:
                node = node.setdefault(token, Node())
            self._longest = max(self._longest, len(tokens))
        self._first = _candidates(self._beginning([self._root]))

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self._root)

    def candidates(self, before: Sequence[int], *, begins: bool = True) -> tuple[Ints, Floats]:
        """Give the tokens that have a bonus next, and their bonuses, (C,) each.

        Args:
            before: tokens written so far; no more than the longest hotword has are looked at.
            begins: whether hotwords may begin here, not only go on.
        """
        waiting, begun = self._reached(before)
        if not waiting and not begun:
            return self._first if begins else _candidates({})
        bonuses = self._beginning([self._root, *waiting]) if begins else {}
        further = (token for node in begun for token in node)
        return _candidates(bonuses | dict.fromkeys(further, self._bonus.further))

    def choose(
        self,
        before: Sequence[int],
        likeliest: tuple[int, float],
        logprobs_of: LogprobsOf,
        end_token: int,
    ) -> tuple[int, float]:
        """Choose the next token, and give its own log probability, without any bonus.

        Args:
            before: tokens written so far, without the prompt.
            likeliest: the model's own choice and its log probability.
            logprobs_of: asked only where a bonus could change the choice.
            end_token: instead of which hotwords go on, but never begin.
        """
        token, logprob = likeliest
        token_C, bonus_C = self.candidates(before, begins=token != end_token)
        if not len(token_C):
            return likeliest
        own = float(bonus_C[token_C == token].sum())
        # All others together have what the likeliest leaves.
        rest = math.log(max(1e-30, -math.expm1(min(0.0, logprob))))
        if rest + float(bonus_C.max()) <= logprob + own:
            return likeliest
        logprob_C = logprobs_of(token_C)
        best = int((logprob_C + bonus_C).argmax())
        if float(logprob_C[best] + bonus_C[best]) <= logprob + own:
            return likeliest
        return int(token_C[best]), float(logprob_C[best])

    def _beginning(self, nodes: Iterable[Node]) -> dict[int, float]:
        tokens = (token for node in nodes for token in node if token not in self._spaces)
        return dict.fromkeys(tokens, self._bonus.first)

    def _reached(self, before: Sequence[int]) -> tuple[list[Node], list[Node]]:
        """Give where in the tree the last tokens lead: behind nothing but space, and further."""
        waiting: list[Node] = []
        begun: list[Node] = []
        for start in range(max(0, len(before) - self._longest), len(before)):
            node: Node | None = self._root
            for token in before[start:]:
                node = node.get(token)
                if node is None:
                    break
            if node:
                only_space = all(token in self._spaces for token in before[start:])
                (waiting if only_space else begun).append(node)
        return waiting, begun


class HotwordLists:
    """Makes trees of lists of words, and keeps the latest.

    Args:
        speller: of the model.
        bonus: what is added.
    """

    def __init__(self, speller: Speller, bonus: Bonus | None = None) -> None:
        self._speller = speller
        self._bonus = bonus
        self._before = speller.encode(WORD_BEFORE)
        self._kept: OrderedDict[tuple[str, ...], Hotwords] = OrderedDict()

    def of(self, words: Sequence[str]) -> Hotwords | None:
        """Give the tree of a list, each word as written and capitalised.

        None where there is nothing to write: no word, or none that the tokens can spell.
        """
        key = tuple(word for word in words if word.split())
        if not key:
            return None
        found = self._kept.pop(key, None)
        if found is None:
            spelled = (self._spelled(text) for word in key for text in variants(word))
            tokens = [one for one in spelled if one]
            spaces = {token for one in tokens for token in one if not self._speller.decode([token])}
            found = Hotwords(tokens, self._bonus, spaces)
        self._kept[key] = found
        while len(self._kept) > LISTS_KEPT:
            self._kept.popitem(last=False)
        return found or None

    def _spelled(self, text: str) -> list[int]:
        """Give the tokens of a text behind another word; none where tokens cannot write it."""
        before = self._before
        both = self._speller.encode(f"{WORD_BEFORE} {text}")
        tokens = both[len(before) :]
        written = both[: len(before)] == before and self._speller.decode(tokens) == text
        return tokens if written else []


def variants(word: str) -> tuple[str, ...]:
    """Give the ways a hotword may be written: as it is, and with capitals as a name or a sentence has.

    Example:
        >>> variants("ada lovelace")
        ('ada lovelace', 'Ada lovelace', 'Ada Lovelace')
    """
    parts = word.split()
    first, *rest = (part[:1].upper() + part[1:] for part in parts)
    text = " ".join(parts)
    ways = (text, " ".join([first, *parts[1:]]), " ".join([first, *rest]))
    return tuple(dict.fromkeys(ways))


def _candidates(bonuses: Mapping[int, float]) -> tuple[Ints, Floats]:
    return np.array(list(bonuses), np.int64), np.array(list(bonuses.values()), np.float32)
