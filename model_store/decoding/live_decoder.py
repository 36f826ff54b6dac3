"""The decoder over several live transcripts, on torch: hear further frames, write further tokens.

Dimensions: T = encoder frames of one stream, P = pooled frames, U = tokens of all transcripts side
by side, S = those that are scored, D = channels, V = vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model_store.backbones.attention import CrossAttention, PooledStates
from model_store.backbones.base import EncoderStates
from model_store.backbones.blocks import DecoderBlock
from model_store.backbones.moonshine import Moonshine
from model_store.backbones.moonshine_streaming import MoonshineStreaming
from model_store.decoding.greedy import logprobs_of
from model_store.decoding.hotwords import Floats, Ints
from model_store.decoding.live import (
    Array,
    DecoderCall,
    Feed,
    LiveTranscript,
    Scored,
)
from model_store.decoding.live_cache import SideBySideCache, TranscriptMemory
from model_store.decoding.live_updates import bring_up_to_date


@dataclass(slots=True)
class DecoderState:
    """What the decoder keeps of one utterance.

    Args:
        memory: keys and values.
        transcript: what it says.
        tail_TD: frames that are not pooled yet.
        calls: what the decoder ran since somebody last took them.
    """

    memory: TranscriptMemory
    transcript: LiveTranscript
    tail_TD: Tensor | None = None
    calls: list[DecoderCall] = field(default_factory=list[DecoderCall])

    @property
    def num_bytes(self) -> int:
        """Bytes of keys, values and weights."""
        return self.memory.num_bytes + self.transcript.num_bytes


class LiveDecoder:
    """Hears and writes for all streams that are due.

    Args:
        model: whose decoder it is.
        watched: alignment heads by layer.
        pool: makes of frames what the decoder hears.
    """

    def __init__(
        self,
        model: Moonshine | MoonshineStreaming,
        watched: Mapping[int, Sequence[int]],
        pool: Callable[[EncoderStates], PooledStates],
    ) -> None:
        self._model = model
        self._pool = pool
        self._watched = watched
        blocks = [layer for layer in model.decoder.layers if isinstance(layer, DecoderBlock)]
        self._cross: list[CrossAttention] = [block.cross for block in blocks]

    def hear(
        self, states: Sequence[DecoderState], frames: Sequence[Tensor], ended: Sequence[bool]
    ) -> list[int]:
        """Pool further frames of each stream and project their keys and values.

        Args:
            states: one a stream.
            frames: x_TD of each, none too.
            ended: whether the stream's last group of frames is completed, by repeating the last.

        Returns:
            Pooled frames that each stream gained.
        """
        whole = [
            self._whole_groups(state, new_TD, end)
            for state, new_TD, end in zip(states, frames, ended, strict=True)
        ]
        pool = self._model.config.memory_pool
        rows = [len(frames_TD) // pool for frames_TD in whole]
        if not sum(rows):
            return rows
        frames_1TD = torch.cat(whole).unsqueeze(0)
        num_frames = torch.tensor([frames_1TD.shape[1]], device=frames_1TD.device)
        pooled = self._pool(EncoderStates(frames_1TD, num_frames))
        for layer, cross in enumerate(self._cross):
            key_HPK, value_HPK = (both[0] for both in cross.keys_values(pooled.states_BPD))
            pieces = zip(states, key_HPK.split(rows, 1), value_HPK.split(rows, 1), strict=True)
            for state, key, value in pieces:
                if key.shape[1]:
                    state.memory.audio[layer].append(key, value)
        return rows

    def write(
        self,
        states: Sequence[DecoderState],
        most_tokens: Sequence[int],
        ended: Sequence[bool],
        most_calls: int | None = None,
    ) -> None:
        """Bring each transcript up to date with what it has heard.

        Args:
            states: one a stream, each with a pooled frame or more.
            most_tokens: limit of each whole transcript.
            ended: whether each utterance has.
            most_calls: after which those that have ended may wait; see `live_updates.write`.
        """
        audio: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

        def call(wanted: Sequence[tuple[int, Feed]]) -> list[Scored]:
            return self._call([(states[index], feed) for index, feed in wanted], audio)

        transcripts = [state.transcript for state in states]
        num_rows = [state.memory.num_rows for state in states]
        bring_up_to_date(transcripts, num_rows, most_tokens, ended, call, most_calls)

    def _whole_groups(self, state: DecoderState, new_TD: Tensor, ended: bool) -> Tensor:  # noqa: FBT001 one of a row
        frames_TD = new_TD if state.tail_TD is None else torch.cat([state.tail_TD, new_TD])
        left = len(frames_TD) % self._model.config.memory_pool
        state.tail_TD = None
        if not left:
            return frames_TD
        if ended:
            missing = self._model.config.memory_pool - left
            return torch.cat([frames_TD, frames_TD[-1:].expand(missing, -1)])
        state.tail_TD = frames_TD[-left:].clone()
        return frames_TD[:-left]

    def _call(
        self,
        wanted: Sequence[tuple[DecoderState, Feed]],
        audio: dict[tuple[int, int], tuple[Tensor, Tensor]],
    ) -> list[Scored]:
        for state, feed in wanted:
            state.memory.truncate(feed.kept_tokens)
            state.calls.append(
                DecoderCall(
                    new_tokens=len(feed.tokens),
                    tokens=feed.kept_tokens + len(feed.tokens),
                    rows=state.memory.num_rows,
                    scored=feed.num_scored,
                )
            )
        decoder = self._model.decoder
        device = decoder.embedding.weight.device
        lengths = [len(feed.tokens) for _, feed in wanted]
        memories = [state.memory for state, _ in wanted]
        cache = SideBySideCache(memories, lengths, device, self._watched, audio)
        tokens = [token for _, feed in wanted for token in feed.tokens]
        state_1UD = decoder(torch.tensor([tokens], device=device), cache)
        pieces = state_1UD[0].split(lengths)
        counts = [feed.num_scored for _, feed in wanted]
        scored_SD = torch.cat([p[-n:] for p, n in zip(pieces, counts, strict=True)])
        logp_SV = decoder.logits(scored_SD).log_softmax(-1)
        best = logp_SV.max(-1)
        logp_SV[:, self._model.config.end_token] = -torch.inf
        other = logp_SV.max(-1)
        columns = (best.indices, best.values, other.indices, other.values)
        each = (column.split(counts) for column in (logp_SV, *columns))
        pieces = zip(wanted, *each, cache.weights, strict=True)
        return [
            Scored(
                best_S.tolist(),
                logp_S.tolist(),
                _weights(weights, len(best_S)),
                other_S.tolist(),
                other_logp_S.tolist(),
                _logprobs_of(all_logp_SV) if feed.biased else None,
            )
            for (_, feed), all_logp_SV, best_S, logp_S, other_S, other_logp_S, weights in pieces
        ]


def _logprobs_of(logp_SV: Tensor) -> Callable[[int, Ints], Floats]:
    return lambda place, token_C: logprobs_of(logp_SV[place])(token_C)


def _weights(weights: list[Tensor], num_scored: int) -> Array | None:
    if not weights:
        return None
    return torch.cat(weights)[:, -num_scored:].float().cpu().numpy()
