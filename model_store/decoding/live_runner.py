"""Live utterances: samples in as they come, words out that settle, every frame encoded once.

    samples --whole chunks--> encoder --frames--> decoder's memory --update--> words
       '- all kept as int16, for a second pass with full context at the end

Needs no torch: what has tensors is a machine's, torch's or an engine's.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias

import numpy as np

from model_store.decoding.hotwords import HotwordLists
from model_store.decoding.live import DecoderCall, LiveModel
from model_store.decoding.live_step import LiveCost, LiveRequest, LiveResult
from model_store.decoding.live_utterance import Decoder, Encoder, Framing, LiveUtterance, Samples
from model_store.decoding.reading import SAMPLE_RATE_HZ, TranscriptReader
from model_store.decoding.second_pass import HearsWhole, SecondPass, TriesFormula
from model_store.depth import DepthPlan, LayerTurn, Progress
from model_store.text.agreement import stable_words
from model_store.text.tokens import Tokenizer

CHUNK_FRAMES = 24
"""Frames an encoder step takes: 0.576 s of a Moonshine's, whole groups of every stride."""

FINAL_CALLS = 4
"""Decoder calls of a step after which finals wait for the next one, for whoever serves many streams:
a partial takes no more, and a final up to a dozen, in which nobody else would get a word."""

Request: TypeAlias = LiveRequest[LiveUtterance[Encoder, Decoder]]
Share: TypeAlias = tuple[LiveRequest[LiveUtterance[Encoder, Decoder]], LiveCost]


class LiveMachine(HearsWhole[Decoder], Protocol[Encoder, Decoder]):
    """Runs a model's tensors for all streams that are due; each list has one entry a stream."""

    def open(self) -> tuple[Encoder, Decoder]:
        """Begin an utterance."""
        ...

    def check(self, plan: DepthPlan, encoder: Encoder) -> None:
        """Refuse a plan that an utterance cannot go on with.

        Raises:
            PlanInvalid: it cannot.
        """
        ...

    def encode(
        self, encoders: Sequence[Encoder], samples: Sequence[Samples], plans: Sequence[DepthPlan]
    ) -> Sequence[Any]:  # Any: of the machine's own, for `hear`
        """Encode one chunk of each."""
        ...

    def hear(self, decoders: Sequence[Decoder], frames: Sequence[Any]) -> list[int]:
        """Take in what was encoded; give the pooled frames that each stream gained."""
        ...

    def complete(self, encoders: Sequence[Encoder], decoders: Sequence[Decoder]) -> list[int]:
        """Bring streams to their end: frames that waited, and the last group; give what each gained."""
        ...

    def write(
        self,
        decoders: Sequence[Decoder],
        most_tokens: Sequence[int],
        ended: Sequence[bool],
        most_calls: int | None,
    ) -> None:
        """Bring transcripts up to date with what they have heard; `most_calls` as in `live_updates`."""
        ...


class LiveFormula(TriesFormula, Protocol):
    """Estimated operations."""

    def front_end(self, first_frame: int, num_frames: int) -> int:
        """Count the front end over further frames."""
        ...

    def layers(self, turns: Sequence[LayerTurn], cached_rows: Sequence[int]) -> int:
        """Count the layers over one step."""
        ...

    def decoder(self, new_rows: int, calls: Sequence[DecoderCall]) -> int:
        """Count keys and values of new pooled frames, and calls of the decoder."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveParts:
    """What a runner needs of its model.

    Args:
        model: what its transcripts need.
        framing: which samples a frame reads.
        chunk_frames: frames an encoder step takes.
        num_layers: of the encoder.
        look_ahead_frames: what a chunk hears of the next one.
        reader, tokenizer: from tokens to words.
        formula: what it costs.
    """

    model: LiveModel
    framing: Framing
    chunk_frames: int
    num_layers: int
    look_ahead_frames: int
    reader: TranscriptReader
    tokenizer: Tokenizer
    formula: LiveFormula


class LiveRunner(Generic[Encoder, Decoder]):
    """Runs live utterances of a model.

    Args:
        machine: what runs its tensors.
        parts: of the model.
        final_calls: decoder calls of a step after which finals go on in the next one; None makes
            them whole in one step.
    """

    def __init__(
        self,
        machine: LiveMachine[Encoder, Decoder],
        parts: LiveParts,
        *,
        final_calls: int | None = None,
    ) -> None:
        self._machine = machine
        self._parts = parts
        self._final_calls = final_calls
        self._second_pass: SecondPass[Encoder, Decoder] = SecondPass(
            machine, parts.reader, parts.formula
        )
        self._full = DepthPlan.full(parts.num_layers)
        self._hotwords = HotwordLists(parts.tokenizer)

    @property
    def chunk_s(self) -> float:
        """Seconds from one encoder step of a stream to the next."""
        return self._parts.chunk_frames * self._parts.framing.step / SAMPLE_RATE_HZ

    def open_utterance(self) -> LiveUtterance[Encoder, Decoder]:
        """Begin an utterance: positions count from its first sample."""
        return LiveUtterance(*self._machine.open())

    def step(self, requests: Sequence[Request[Encoder, Decoder]]) -> list[LiveResult]:
        """Run all streams that are due as far as their samples go, whatever their plans.

        Where a result says that its words are not done, the same is asked again without samples.

        Raises:
            PlanInvalid: a plan is none of this model's, or skips other layers than its utterance
                did so far; nothing has changed then.
        """
        for request in requests:
            assert not request.utterance.ended, "expected an utterance that has not ended"
            self._machine.check(request.plan, request.utterance.encoder)
        costs = [LiveCost() for _ in requests]
        pairs = list(zip(requests, costs, strict=True))
        for request in requests:
            request.utterance.push(request.samples)
        once = [(r, c) for r, c in pairs if not _again(r)]
        again = [(r, c) for r, c in pairs if _again(r) and r.utterance.num_samples]
        while due := [(r, c, n) for r, c in once if (n := self._frames_due(r))]:
            self._encode(due)
        self._close([(r, c) for r, c in once if r.ends and not r.utterance.writes])
        begin = [(r.utterance, r.plan, c) for r, c in again if r.utterance.whole is None]
        self._second_pass.begin(begin)
        self._write([*((r, c) for r, c in once if r.decode or r.ends), *again])
        while self._final_calls is None and (
            further := [(r, c) for r, c in again if not r.utterance.ended]
        ):
            self._write(further)
        return [self._result(request, cost) for request, cost in pairs]

    def _frames_due(self, request: Request[Encoder, Decoder]) -> int:
        """Give the frames of the chunk that a stream can run now; fewer than a chunk only at its end."""
        utterance, framing = request.utterance, self._parts.framing
        done, chunk_frames = utterance.num_frames, self._parts.chunk_frames
        if request.ends and 0 < utterance.num_samples < framing.receptive and not done:
            missing = framing.receptive - len(utterance.waiting)
            utterance.waiting = np.pad(utterance.waiting, (0, max(0, missing)))
        there = framing.samples_of(done) + len(utterance.waiting)
        frames = framing.frames_in(there) - done
        return min(frames, chunk_frames) if frames >= chunk_frames or request.ends else 0

    def _encode(self, due: Sequence[tuple[Request[Encoder, Decoder], LiveCost, int]]) -> None:
        started = time.perf_counter()
        samples: list[Samples] = []
        for request, cost, frames in due:
            self._book(request, cost, frames)
            samples.append(self._take(request.utterance, frames))
        states = self._machine.encode(
            [r.utterance.encoder for r, _, _ in due], samples, [r.plan for r, _, _ in due]
        )
        encoded = time.perf_counter()
        rows = self._machine.hear([r.utterance.decoder for r, _, _ in due], states)
        heard = time.perf_counter()
        total = sum(frames for _, _, frames in due)
        for (_, cost, frames), gained in zip(due, rows, strict=True):
            cost.add(self._parts.formula.decoder(gained, ()))
            cost.encode_s += (encoded - started) * frames / total
            cost.decode_s += (heard - encoded) * frames / total

    def _take(self, utterance: LiveUtterance[Encoder, Decoder], num_frames: int) -> Samples:
        """Give the samples that this many further frames need."""
        done, framing = utterance.num_frames, self._parts.framing
        return utterance.take(framing.samples_of(done + num_frames) - framing.samples_of(done))

    def _book(self, request: Request[Encoder, Decoder], cost: LiveCost, frames: int) -> None:
        """Book a chunk, or with no frames what waits in an utterance that ends."""
        encoder, formula = request.utterance.encoder, self._parts.formula
        done, ended = request.utterance.num_frames, frames < self._parts.chunk_frames
        full = Progress.at(self._full, done, self._parts.look_ahead_frames)
        front_end = formula.front_end(done, frames) if frames else 0
        turns = encoder.turns(request.plan, frames, ended=ended)
        in_full = full.turns(self._full, frames, ended=ended)
        cost.add(
            front_end + formula.layers(turns, [layer.num_rows for layer in encoder.layers]),
            front_end + formula.layers(in_full, full.heard or [0] * self._parts.num_layers),
            encoder=True,
        )

    def _close(self, ending: Sequence[Share[Encoder, Decoder]]) -> None:
        """Have what waits in each stream's encoder heard, and complete its last group of frames."""
        for request, cost in ending:
            if request.utterance.encoder.waits:
                self._book(request, cost, 0)
        streams = [r.utterance for r, _ in ending]
        rows = self._machine.complete([s.encoder for s in streams], [s.decoder for s in streams])
        for (_, cost), gained in zip(ending, rows, strict=True):
            cost.add(self._parts.formula.decoder(gained, ()))

    def _write(self, asked: Sequence[Share[Encoder, Decoder]]) -> None:
        due = [(r, c) for r, c in asked if _has_news(r)]
        if not due:
            return
        started = time.perf_counter()
        states = [r.utterance.writer for r, _ in due]
        for (request, _), state in zip(due, states, strict=True):
            state.transcript.hotwords = self._hotwords.of(request.hotwords)
        settled = [len(state.transcript.committed.tokens) for state in states]
        most = [self._parts.reader.most_tokens(_num_samples(r.utterance)) for r, _ in due]
        self._machine.write(states, most, [r.ends for r, _ in due], self._final_calls)
        for (request, cost), before in zip(due, settled, strict=True):
            utterance, state = request.utterance, request.utterance.writer
            if utterance.whole is not None:
                if not utterance.writes:
                    self._end_second_pass(utterance, cost)
                continue
            utterance.rows_written = state.memory.num_rows
            cost.add(self._parts.formula.decoder(0, state.calls))
            state.calls.clear()
            if not request.ends:
                self._caption(utterance)
            elif not utterance.writes:
                self._settle(utterance, before)
        share_s = (time.perf_counter() - started) / len(due)
        for _, cost in due:
            cost.decode_s += share_s

    def _end_second_pass(self, utterance: LiveUtterance[Encoder, Decoder], cost: LiveCost) -> None:
        decoded = self._second_pass.end(utterance, cost)
        if decoded is not None:
            utterance.words, utterance.stable_words = decoded.words, len(decoded.words)
            utterance.ended = True

    def _settle(self, utterance: LiveUtterance[Encoder, Decoder], settled: int) -> None:
        """Read the words of an utterance that has ended."""
        decoded = self._parts.reader.read(
            utterance.decoder.transcript.hypothesis(),
            utterance.num_samples,
            utterance.num_samples / SAMPLE_RATE_HZ,
            words=True,
            settled=settled,
        )
        utterance.words = decoded.words
        utterance.stable_words = len(decoded.words)

    def _caption(self, utterance: LiveUtterance[Encoder, Decoder]) -> None:
        """Read the words so far, each where attention was while it was written."""
        transcript, row_s = utterance.decoder.transcript, self._parts.model.row_s
        written = transcript.committed + transcript.tentative
        audio_s = self._encoded_s(utterance)
        rows = written.position_rows or np.linspace(0, utterance.rows_written, len(written.tokens))
        end_s = np.maximum.accumulate([(row + 1) * row_s for row in rows] or [0.0])
        utterance.words = self._parts.reader.words(
            written.tokens, written.logprobs, end_s.tolist(), audio_s
        )
        pieces = self._parts.tokenizer.decode_words(written.tokens)
        utterance.stable_words = stable_words(pieces, len(transcript.committed.tokens))

    def _result(self, request: Request[Encoder, Decoder], cost: LiveCost) -> LiveResult:
        utterance = request.utterance
        if utterance.whole is None:
            utterance.ended = request.ends and not utterance.writes
        encoded_s = (
            utterance.num_samples / SAMPLE_RATE_HZ if request.ends else self._encoded_s(utterance)
        )
        done = utterance.ended or not request.ends
        return LiveResult(utterance.words, utterance.stable_words, encoded_s, cost, done=done)

    def _encoded_s(self, utterance: LiveUtterance[Encoder, Decoder]) -> float:
        frames = utterance.encoder.num_final_frames
        return self._parts.framing.samples_of(frames) / SAMPLE_RATE_HZ


def _again(request: Request[Encoder, Decoder]) -> bool:
    return request.ends and request.second_pass


def _num_samples(utterance: LiveUtterance[Encoder, Decoder]) -> int:
    return utterance.num_samples if utterance.whole is None else utterance.whole.num_samples


def _has_news(request: Request[Encoder, Decoder]) -> bool:
    rows = request.utterance.writer.memory.num_rows
    return rows > 0 and (request.ends or rows > request.utterance.rows_written)
