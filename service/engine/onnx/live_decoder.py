"""The decoder over several live transcripts: hear further frames, write further tokens.

Dimensions: T = encoder frames of one stream, P = pooled frames, S = scored tokens, D = channels,
N = transcripts, W = watched heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from model_store.decoding.live import (
    DecoderCall,
    Feed,
    LiveTranscript,
    Scored,
)
from model_store.decoding.live_updates import bring_up_to_date
from service.engine.onnx.checkpoint import Floats
from service.engine.onnx.decoder import Decoder, Ints, StepOutput
from service.engine.onnx.encoder import Encoder, Memory
from service.engine.onnx.live_memory import DecoderMemory, SideBySide, UpdateScratch


@dataclass(slots=True)
class DecoderState:
    """What the decoder keeps of one utterance.

    Args:
        memory: keys and values.
        transcript: what it says.
        tail_TD: frames that are not pooled yet.
        calls: what the decoder ran since somebody last took them.
    """

    memory: DecoderMemory
    transcript: LiveTranscript
    tail_TD: Floats
    calls: list[DecoderCall] = field(default_factory=list[DecoderCall])

    @property
    def num_bytes(self) -> int:
        """Bytes of keys, values, weights and the tail."""
        return self.memory.num_bytes + self.transcript.num_bytes + self.tail_TD.nbytes


class LiveDecoder:
    """Hears and writes for all streams that are due.

    Args:
        encoder: projects what the decoder attends to.
        decoder: runs its step.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._pool = encoder.sizes.memory_pool
        self._scratch = UpdateScratch()

    def open(self, transcript: LiveTranscript) -> DecoderState:
        """Begin an utterance."""
        sizes = self._encoder.sizes
        tail_TD = np.zeros((0, sizes.dim), np.float32)
        return DecoderState(DecoderMemory.begin(sizes), transcript, tail_TD)

    def remembering(self, transcript: LiveTranscript, memory: Memory) -> DecoderState:
        """Begin an utterance whose audio was heard at once."""
        state = self.open(transcript)
        state.memory.audio.append(memory.keys_values)
        return state

    def hear(self, states: Sequence[DecoderState], frames: Sequence[Floats]) -> list[int]:
        """Pool further frames of each stream and project their keys and values.

        Args:
            states: one a stream.
            frames: x_TD of each.

        Returns:
            Pooled frames that each stream gained.
        """
        whole: list[Floats] = []
        for state, new_TD in zip(states, frames, strict=True):
            frames_TD = np.concatenate([state.tail_TD, new_TD])
            end = len(frames_TD) // self._pool * self._pool
            state.tail_TD = frames_TD[end:].copy()
            whole.append(frames_TD[:end])
        return self._remember(states, whole)

    def complete(self, states: Sequence[DecoderState]) -> list[int]:
        """Complete each stream's last group of frames by repeating the last; give what each gained."""
        whole: list[Floats] = []
        for state in states:
            tail_TD, missing = state.tail_TD, -len(state.tail_TD) % self._pool
            whole.append(np.concatenate([tail_TD, np.repeat(tail_TD[-1:], missing, axis=0)]))
            state.tail_TD = tail_TD[:0]
        return self._remember(states, whole)

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
            most_calls: after which those that have ended may wait; see `decoding.live_updates`.
        """
        side_by_side = SideBySide([state.memory for state in states], self._scratch)

        def call(wanted: Sequence[tuple[int, Feed]]) -> list[Scored]:
            for index, feed in wanted:
                states[index].calls.append(
                    DecoderCall(
                        new_tokens=len(feed.tokens),
                        tokens=feed.kept_tokens + len(feed.tokens),
                        rows=states[index].memory.num_rows,
                        scored=feed.num_scored,
                    )
                )
            return self._call(side_by_side, wanted, [states[i].memory.num_rows for i, _ in wanted])

        transcripts = [state.transcript for state in states]
        num_rows = [state.memory.num_rows for state in states]
        bring_up_to_date(transcripts, num_rows, most_tokens, ended, call, most_calls)

    def _remember(self, states: Sequence[DecoderState], whole: Sequence[Floats]) -> list[int]:
        rows = [len(frames_TD) // self._pool for frames_TD in whole]
        if not sum(rows):
            return rows
        pairs = self._encoder.remembered(np.concatenate(whole)).keys_values
        pieces = np.split(pairs, np.cumsum(rows)[:-1], axis=2)
        for state, piece in zip(states, pieces, strict=True):
            if piece.shape[2]:
                state.memory.audio.append(piece)
        return rows

    def _call(
        self,
        side_by_side: SideBySide,
        wanted: Sequence[tuple[int, Feed]],
        num_rows: Sequence[int],
    ) -> list[Scored]:
        rows = side_by_side.rows(wanted)
        found = self._decoder.run(rows.step, with_rows=any(feed.biased for _, feed in wanted))
        side_by_side.keep(wanted, found)
        scored: list[Scored] = []
        each = zip(wanted, rows.places, rows.first_scored, num_rows, strict=True)
        for (_, feed), place, start, heard in each:
            of = slice(start, start + feed.num_scored)
            weights_WSP: Floats | None = None
            if found.weights_NWUP is not None:
                last = slice(len(feed.tokens) - feed.num_scored, len(feed.tokens))
                weights_WSP = found.weights_NWUP[place, :, last, :heard].copy()
            scored.append(
                Scored(
                    found.token_S[of].tolist(),
                    found.logprob_S[of].tolist(),
                    weights_WSP,
                    found.other_S[of].tolist(),
                    found.other_logprob_S[of].tolist(),
                    self._logprobs_of(found, start) if feed.biased else None,
                )
            )
        return scored

    def _logprobs_of(self, found: StepOutput, start: int) -> Callable[[int, Ints], Floats]:
        """Give what scores tokens at the places of the transcript whose rows begin at `start`."""
        return lambda place, token_C: self._decoder.logprobs_of(found, start + place, token_C)
