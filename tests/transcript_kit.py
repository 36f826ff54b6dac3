"""A decoder that is a function of what it was fed, for live transcripts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from model_store.decoding.live import Feed, Scored

END = 0
PROMPT = (99,)
ROW_S = 0.1
MOST = 40
LIMIT = 12

Next = Callable[[tuple[int, ...], int], int]
"""The likeliest token after these, prompt included, over so many pooled frames."""


@dataclass
class Decoder:
    """Keeps what each transcript fed, as a cache would, and answers from that alone."""

    following: Next
    watched: bool = False
    rows: int = 0
    cached: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    batches: list[int] = field(default_factory=list[int])

    def call(self, wanted: Sequence[tuple[int, Feed]]) -> list[Scored]:
        self.batches.append(len(wanted))
        return [self.scored(index, feed) for index, feed in wanted]

    def scored(self, index: int, feed: Feed) -> Scored:
        while len(self.cached) <= index:
            self.cached.append(())
        before = self.cached[index]
        assert feed.kept_tokens <= len(before), "expected the cache to hold what is kept"
        after = before[: feed.kept_tokens] + feed.tokens
        self.cached[index] = after
        ends = range(len(after) - feed.num_scored + 1, len(after) + 1)
        tokens = [self.following(after[:end], self.rows) for end in ends]
        weights_HSP = None
        if self.watched:
            weights_HSP = np.zeros((2, len(tokens), self.rows), np.float32)
            for place, end in enumerate(ends):
                weights_HSP[:, place, min(end, self.rows) - 1] = 1.0
        return Scored(tokens, [-0.1] * len(tokens), weights_HSP)
