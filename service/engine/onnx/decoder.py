"""The decoder: its step's graph, and greedy decoding of several transcripts at once, a run a token.

Dimensions: N = transcripts, U = new tokens, M = rows, S = scored rows, L = room for tokens, P = pooled frames, H = heads,
K = channels of a head, D = channels, W = watched heads, V = vocabulary, C = tokens asked about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_store.decoding.hotwords import Hotwords
from model_store.decoding.hypothesis import Hypothesis
from service.engine.onnx.checkpoint import Floats, Sizes
from service.engine.onnx.encoder import Memory
from service.engine.onnx.processor import Numerics
from service.engine.onnx.rooms import whole_blocks
from service.engine.onnx.scaled_rows import rounded_row
from service.engine.onnx.sessions import Array, Graph, RotaryTable

Ints = npt.NDArray[np.int64]

FIRST_ROOM = 32
"""Tokens that caches have room for at first; it doubles when it is full."""

HIDDEN = -1e9
"""Added to a score that must not count."""

SCORED = ("token", "logprob", "other", "other_logprob")
"""What the step gives of each scored row: the likeliest token, and that besides the end token."""

SCORED_ROWS = "rows"
"""What the step multiplies the vocabulary with; asked for where single tokens are scored outside."""


@dataclass(frozen=True, slots=True)
class StepInput:
    """New tokens of several transcripts, and what they attend to.

    Args:
        token_M, position_M: side by side, each at its place in its transcript.
        filled_NU: the row of each place.
        whole_M: the place of each row.
        scored_S: rows after which the next token is wanted.
        seen, seen_mask: keys and values by layer, (N, H, L, K) each, and (N, 1, U, L + U).
        heard, heard_mask: of the audio, (N, H, P, K) each, and (N, 1, 1, P).
    """

    token_M: Ints
    position_M: Ints
    filled_NU: Ints
    whole_M: Ints
    scored_S: Ints
    seen: Sequence[Floats]
    seen_mask: Floats
    heard: Sequence[Floats]
    heard_mask: Floats


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a run of the step gives.

    Args:
        token_S, logprob_S: the likeliest token.
        other_S, other_logprob_S: the likeliest besides the end token.
        new: keys and values of the new tokens by layer, (N, H, U, K) each.
        weights_NWUP: of the watched heads.
        rows_SD: what the vocabulary was multiplied with, where it was asked for.
    """

    token_S: Ints
    logprob_S: Floats
    other_S: Ints
    other_logprob_S: Floats
    new: Sequence[Floats]
    weights_NWUP: Floats | None
    rows_SD: Floats | None = None


class Caches:
    """Keys and values of a batch of transcripts.

    Args:
        sizes: of the model.
        memories: keys and values of each transcript's audio, (2C, H, P, K).
    """

    def __init__(self, sizes: Sizes, memories: Sequence[Floats]) -> None:
        heads, size = sizes.num_heads, sizes.head_dim
        most = whole_blocks(max(pairs.shape[2] for pairs in memories))
        shape = (2 * sizes.decoder_layers, len(memories), heads, most, size)
        cross = np.zeros(shape, np.float32)
        self.cross_mask = np.full((len(memories), 1, 1, most), HIDDEN, np.float32)
        for row, pairs in enumerate(memories):
            cross[:, row, :, : pairs.shape[2]] = pairs
            self.cross_mask[row, ..., : pairs.shape[2]] = 0
        self.cross = list(cross)
        room = (len(memories), heads, FIRST_ROOM, size)
        self.self = [np.zeros(room, np.float32) for _ in range(2 * sizes.decoder_layers)]
        self.num_tokens = 0

    @property
    def room(self) -> int:
        """Tokens that fit before the caches have to grow."""
        return self.self[0].shape[2]

    def append(self, new: Sequence[Array]) -> None:
        """Keep the keys and values of new tokens, (N, H, U, K) each, behind those there are."""
        end = self.num_tokens + new[0].shape[2]
        if end > self.room:
            wider = ((0, 0), (0, 0), (0, max(self.room, end - self.room)), (0, 0))
            self.self = [np.pad(kept, wider) for kept in self.self]
        for kept, added in zip(self.self, new, strict=True):
            kept[:, :, self.num_tokens : end] = added
        self.num_tokens = end

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the transcripts, in the order given."""
        self.self = [np.ascontiguousarray(kept[rows]) for kept in self.self]
        self.cross = [np.ascontiguousarray(kept[rows]) for kept in self.cross]
        self.cross_mask = self.cross_mask[rows]


class Decoder:
    """The decoder step, loaded.

    Args:
        folder: where its graph was built.
        sizes: of the model.
        embedding: int8 rows of the tokens and their scales.
        num_threads: threads one run may use.
        numerics: how the graph's products are computed.
    """

    def __init__(
        self,
        folder: Path,
        sizes: Sizes,
        embedding: tuple[npt.NDArray[np.int8], Floats],
        num_threads: int,
        numerics: Numerics,
    ) -> None:
        self._sizes = sizes
        self._numerics: Numerics = numerics
        self._step = Graph(folder / "decoder_step.onnx", num_threads)
        self._embedding_VD, self._scale_V = embedding
        self._rotary = RotaryTable(sizes.rotated)
        layers = range(sizes.decoder_layers)
        self._new = [f"new_{kind}_{layer}" for layer in layers for kind in ("key", "value")]
        self._cached = [f"{kind}_{layer}" for layer in layers for kind in ("key", "value")]
        self._watches = "weights" in self._step.outputs
        self._outputs = [*SCORED, *self._new, *["weights"] * self._watches]

    def greedy(
        self,
        memories: Sequence[Memory],
        max_tokens: Sequence[int],
        hotwords: Hotwords | None = None,
    ) -> list[Hypothesis]:
        """Take the likeliest token until the end token or each transcript's limit.

        Args:
            memories: of each transcript's audio.
            max_tokens: limit of each.
            hotwords: whose tokens have a bonus.
        """
        done = [Hypothesis() for _ in memories]
        weights: list[list[Floats]] = [[] for _ in memories]
        caches = Caches(self._sizes, [memory.keys_values for memory in memories])
        rows: list[int] = list(range(len(memories)))
        token_N = np.full(len(rows), self._sizes.start_token, np.int64)
        while rows:
            token_N, logprob_N, weights_NWP = self._take(
                token_N, caches, hotwords, [done[row].tokens for row in rows]
            )
            alive: list[int] = []
            for place, row in enumerate(rows):
                if weights_NWP is not None:
                    weights[row].append(weights_NWP[place])
                hypothesis = done[row]
                goes_on = hypothesis.take(
                    int(token_N[place]), float(logprob_N[place]), self._sizes.end_token
                )
                if goes_on and len(hypothesis.tokens) < max_tokens[row]:
                    alive.append(place)
            if len(alive) < len(rows):
                rows = [rows[place] for place in alive]
                token_N = token_N[alive]
                if rows:
                    caches.keep(alive)
        for hypothesis, memory, found in zip(done, memories, weights, strict=True):
            if found:
                valid = memory.keys_values.shape[2]
                hypothesis.weights_HUP = np.stack(found, axis=1)[:, :, :valid]
        return done

    def run(self, step: StepInput, *, with_rows: bool = False) -> StepOutput:
        """Run the step once.

        Args:
            step: new tokens.
            with_rows: also give what `logprobs_of` needs.
        """
        token_M = step.token_M
        cos_MR, sin_MR = self._rotary(2 * step.position_M)
        inputs: dict[str, Array] = {
            "x": self._embedding_VD[token_M] * self._scale_V[token_M, None],
            "cos": cos_MR,
            "sin": sin_MR,
            "place": np.arange(len(token_M))[None],
            "filled": step.filled_NU,
            "whole": step.whole_M,
            "scored": step.scored_S,
            "self_mask": step.seen_mask,
            "cross_mask": step.heard_mask,
        }
        for name, seen, heard in zip(self._cached, step.seen, step.heard, strict=True):
            inputs[f"self_{name}"], inputs[f"cross_{name}"] = seen, heard
        outputs = [*self._outputs, SCORED_ROWS] if with_rows else self._outputs
        token_S, logprob_S, other_S, other_logprob_S, *rest = self._step(inputs, outputs)
        rows_SD = rest.pop() if with_rows else None
        new, weights = rest[: len(self._new)], rest[-1] if self._watches else None
        return StepOutput(token_S, logprob_S, other_S, other_logprob_S, new, weights, rows_SD)

    def logprobs_of(self, found: StepOutput, row: int, token_C: Ints) -> Floats:
        """Give the log probabilities of a few tokens at a scored row, as the graph has them.

        Args:
            found: of a run with rows.
            row: which of them.
            token_C: tokens to score.
        """
        assert found.rows_SD is not None, "expected a run with rows"
        row_D = rounded_row(found.rows_SD[row], self._numerics)
        asked = np.append(token_C, found.token_S[row])
        score_C = self._embedding_VD[asked].astype(np.float32) @ row_D * self._scale_V[asked]
        # The likeliest token's score and log probability give what the scores were divided by.
        return score_C[:-1] - score_C[-1] + found.logprob_S[row]

    def _take(
        self,
        token_N: Ints,
        caches: Caches,
        hotwords: Hotwords | None,
        written: Sequence[Sequence[int]],
    ) -> tuple[Ints, Floats, Floats | None]:
        """Run one step over one new token of each transcript."""
        row_N = np.arange(len(token_N))
        seen_mask = np.zeros((len(token_N), 1, 1, caches.room + 1), np.float32)
        seen_mask[..., caches.num_tokens : caches.room] = HIDDEN
        found = self.run(
            StepInput(
                token_M=token_N,
                position_M=np.full(len(token_N), caches.num_tokens),
                filled_NU=row_N[:, None],
                whole_M=row_N,
                scored_S=row_N,
                seen=caches.self,
                seen_mask=seen_mask,
                heard=caches.cross,
                heard_mask=caches.cross_mask,
            ),
            with_rows=hotwords is not None,
        )
        caches.append(found.new)
        weights_NWUP = found.weights_NWUP
        seen_NWP = None if weights_NWUP is None else weights_NWUP[:, :, 0]
        if hotwords is None:
            return found.token_S, found.logprob_S, seen_NWP
        chosen = [self._chosen(found, row, hotwords, before) for row, before in enumerate(written)]
        tokens, logprobs = zip(*chosen, strict=True)
        return np.array(tokens, np.int64), np.array(logprobs, np.float32), seen_NWP

    def _chosen(
        self, found: StepOutput, row: int, hotwords: Hotwords, before: Sequence[int]
    ) -> tuple[int, float]:
        likeliest = int(found.token_S[row]), float(found.logprob_S[row])
        return hotwords.choose(
            before,
            likeliest,
            lambda token_C: self.logprobs_of(found, row, token_C),
            self._sizes.end_token,
        )
