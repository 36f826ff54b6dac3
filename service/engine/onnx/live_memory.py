"""What the decoder keeps of live utterances, and how several of them enter one run of its step.

Each utterance owns its keys and values. For an update those of all that write are laid side by
side once, and each run's new ones are written behind them and to their owner:

    tokens   a a a a a . . .     audio   a a a a a a a .      . hidden by masks
             b b . . . . . .             b b b b . . . .

Dimensions: N = transcripts, U = most new tokens of one, C = decoder layers, H = heads, L = tokens,
P = pooled frames, G = new ones, K = channels of a head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from model_store.decoding.live import Feed
from service.engine.onnx.checkpoint import Floats, Sizes
from service.engine.onnx.decoder import HIDDEN, Ints, StepInput, StepOutput
from service.engine.onnx.rooms import Scratch, whole_blocks, widened

SPARE_TOKENS = 8
"""Room for what one update writes, as a rule."""

AUDIO_BYTES, TOKEN_BYTES = 96 * 2**20, 48 * 2**20
"""Memory kept for all that write: two dozen utterances of ten seconds."""


class PairStore:
    """Keys and values of every decoder layer, in room that grows by blocks; (2C, H, rows, K)."""

    def __init__(self, sizes: Sizes) -> None:
        shape = (2 * sizes.decoder_layers, sizes.num_heads, 0, sizes.head_dim)
        self._room = np.zeros(shape, np.float32)
        self.num_rows = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the room, whether used or not."""
        return self._room.nbytes

    def append(self, pairs: Floats) -> None:
        """Add rows behind the last one, (2C, H, G, K)."""
        end = self.num_rows + pairs.shape[2]
        missing = end - self._room.shape[2]
        if missing > 0:
            self._room = widened(self._room, 2, whole_blocks(missing))
        self._room[:, :, self.num_rows : end] = pairs
        self.num_rows = end

    def truncate(self, num_rows: int) -> None:
        """Forget the rows behind the first `num_rows`."""
        assert num_rows <= self.num_rows, "expected rows that there are"
        self.num_rows = num_rows

    def read(self) -> Floats:
        """Give all rows where they lie."""
        return self._room[:, :, : self.num_rows]


@dataclass(slots=True)
class DecoderMemory:
    """Keys and values of one transcript: of what was written, and of the pooled frames."""

    tokens: PairStore
    audio: PairStore

    @classmethod
    def begin(cls, sizes: Sizes) -> "DecoderMemory":
        """Nothing heard, nothing written."""
        return cls(PairStore(sizes), PairStore(sizes))

    @property
    def num_rows(self) -> int:
        """Pooled frames there are."""
        return self.audio.num_rows

    @property
    def num_bytes(self) -> int:
        """Bytes of all keys and values."""
        return self.tokens.num_bytes + self.audio.num_bytes


@dataclass(frozen=True, slots=True)
class StepRows:
    """The new tokens of one run: which places and rows they have.

    Args:
        step: what the decoder takes.
        places: of the transcripts that write, in the order asked for.
        first_scored: the first scored row of each.
    """

    step: StepInput
    places: Sequence[int]
    first_scored: Sequence[int]


class UpdateScratch:
    """Memory in which every update lays its transcripts side by side."""

    def __init__(self) -> None:
        self.audio, self.tokens = Scratch(AUDIO_BYTES), Scratch(TOKEN_BYTES)


class SideBySide:
    """The transcripts of one update, for the runs that it takes.

    Args:
        memories: of all of them; nothing is heard while they write.
        scratch: which this update has to itself.
    """

    def __init__(self, memories: Sequence[DecoderMemory], scratch: UpdateScratch) -> None:
        self._memories = memories
        self._scratch = scratch
        self._place_of: Mapping[int, int] = {}
        self._lay_out(range(len(memories)))

    def rows(self, wanted: Sequence[tuple[int, Feed]]) -> StepRows:
        """Lay out what transcripts want of a run, and forget what they keep no more.

        Args:
            wanted: by index; who is missing once has nothing left to write in this update.
        """
        # Products run over the rows alone, so a place that stays empty costs attention, while
        # closing up costs a copy of everything: only where it saves half.
        if 2 * len(wanted) <= len(self._place_of):
            self._lay_out([index for index, _ in wanted])
        for index, feed in wanted:
            self._memories[index].tokens.truncate(feed.kept_tokens)
        places = [self._place_of[index] for index, _ in wanted]
        feeds = [feed for _, feed in wanted]
        counts = [len(feed.tokens) for feed in feeds]
        ends = list(accumulate(counts))
        self._make_room(max(feed.kept_tokens + len(feed.tokens) for feed in feeds))
        filled_NU = np.zeros((len(self._place_of), max(counts)), np.int64)
        position: list[Ints] = []
        whole: list[Ints] = []
        scored: list[Ints] = []
        for place, feed, count, end in zip(places, feeds, counts, ends, strict=True):
            filled_NU[place] = end - count + np.minimum(np.arange(max(counts)), count - 1)
            position.append(np.arange(feed.kept_tokens, feed.kept_tokens + count))
            whole.append(np.arange(count) + max(counts) * place)
            scored.append(np.arange(end - feed.num_scored, end))
        step = StepInput(
            token_M=np.array([token for feed in feeds for token in feed.tokens], np.int64),
            position_M=np.concatenate(position),
            filled_NU=filled_NU,
            whole_M=np.concatenate(whole),
            scored_S=np.concatenate(scored),
            seen=list(self._tokens),
            seen_mask=self._seen_mask(places, feeds, max(counts)),
            heard=list(self._audio),
            heard_mask=self._heard_mask,
        )
        first = np.cumsum([0, *(feed.num_scored for feed in feeds)])[:-1]
        return StepRows(step, places, first.tolist())

    def keep(self, wanted: Sequence[tuple[int, Feed]], found: StepOutput) -> None:
        """Keep the keys and values of the tokens that a run took in."""
        new = np.stack(found.new)
        for index, feed in wanted:
            place, start = self._place_of[index], feed.kept_tokens
            pairs = new[:, place, :, : len(feed.tokens)]
            self._tokens[:, place, :, start : start + len(feed.tokens)] = pairs
            self._memories[index].tokens.append(pairs)

    def _lay_out(self, indices: Sequence[int]) -> None:
        """Put the transcripts named side by side."""
        self._place_of = {index: place for place, index in enumerate(indices)}
        memories = [self._memories[index] for index in indices]
        tokens = [memory.tokens.read() for memory in memories]
        self._tokens = _side_by_side(tokens, self._scratch.tokens, SPARE_TOKENS)
        audio = [memory.audio.read() for memory in memories]
        self._audio = _side_by_side(audio, self._scratch.audio)
        self._heard_mask = np.full((len(memories), 1, 1, self._audio.shape[3]), HIDDEN, np.float32)
        for place, memory in enumerate(memories):
            self._heard_mask[place, ..., : memory.num_rows] = 0

    def _seen_mask(self, places: Sequence[int], feeds: Sequence[Feed], most: int) -> Floats:
        """Hide what each transcript keeps no more, and each new token's successors."""
        room = self._tokens.shape[3]
        mask_N1US = np.zeros((len(self._place_of), 1, most, room + most), np.float32)
        mask_N1US[..., room:] = np.triu(np.full((most, most), HIDDEN, np.float32), 1)
        for place, feed in zip(places, feeds, strict=True):
            mask_N1US[place, ..., feed.kept_tokens : room] = HIDDEN
        return mask_N1US

    def _make_room(self, num_tokens: int) -> None:
        missing = num_tokens - self._tokens.shape[3]
        if missing > 0:
            self._tokens = widened(self._tokens, 3, whole_blocks(missing))


def _side_by_side(parts: Sequence[Floats], scratch: Scratch, spare: int = 0) -> Floats:
    """Lay (2C, H, rows, K) each into (2C, N, H, room, K); masks hide what lies where one has no rows."""
    pairs, heads, _, size = parts[0].shape
    room = whole_blocks(max(part.shape[2] for part in parts) + spare)
    laid = scratch.array((pairs, len(parts), heads, room, size))
    for place, part in enumerate(parts):
        laid[:, place, :, : part.shape[2]] = part
    return laid
