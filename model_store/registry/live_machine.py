"""What runs the tensors of live utterances on torch; see `decoding.live_runner.LiveMachine`.

    ChunkMachine     Moonshine            a chunk's frames are final when it has run; the chunks of
                                          all streams lie side by side
    WindowedMachine  Moonshine Streaming  a frame is final once its layers have heard what their
                                          windows reach; each stream's encoder runs by itself

The decoder writes for all streams together either way.

Dimensions: T = frames, D = channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model_store.backbones.device import device_of, wait_for
from model_store.backbones.incremental import Chunk, EncoderState, IncrementalEncoder
from model_store.backbones.moonshine import Moonshine
from model_store.backbones.moonshine_streaming import MoonshineStreaming
from model_store.backbones.moonshine_streaming_live import LiveEncoder
from model_store.decoding.live_decoder import DecoderState, LiveDecoder
from model_store.decoding.live_utterance import Samples
from model_store.depth import DepthPlan, DepthSchedule, LayerTurn, Progress
from model_store.errors import PlanInvalid

Watched = Mapping[int, Sequence[int]]
"""Alignment heads by decoder layer."""


@dataclass(frozen=True, slots=True)
class Beginnings:
    """Make the decoder's state at an utterance's start: of one fed live, of one heard whole again."""

    live: Callable[[], DecoderState]
    whole: Callable[[], DecoderState]


class ChunkMachine:
    """Runs a Moonshine's tensors.

    Args:
        module: the model.
        watched: its heads.
        begin: makes its decoder's states.
        chunk_frames: frames an encoder step takes.
        cache_dtype: what keys and values are kept in.
    """

    def __init__(
        self,
        module: Moonshine,
        watched: Watched,
        begin: Beginnings,
        chunk_frames: int,
        cache_dtype: torch.dtype,
    ) -> None:
        self._module = module
        self._begin = begin
        self._cache_dtype = cache_dtype
        self._encoder = IncrementalEncoder(module.encoder, chunk_frames)
        self._decoder = LiveDecoder(module, watched, module.decoder.pool)

    def open(self) -> tuple[EncoderState, DecoderState]:
        """Begin an utterance."""
        look_ahead = self._module.encoder.stack.look_ahead_frames
        state = EncoderState.begin(self._module.num_layers, self._cache_dtype, look_ahead)
        return state, self._begin.live()

    def check(self, plan: DepthPlan, encoder: EncoderState) -> None:
        """Refuse a plan that the utterance cannot go on with.

        Raises:
            PlanInvalid: it cannot.
        """
        self._encoder.check(plan, encoder)

    def encode(
        self,
        encoders: Sequence[EncoderState],
        samples: Sequence[Samples],
        plans: Sequence[DepthPlan],
    ) -> list[Tensor]:
        """Encode a chunk of each stream; give x_TD of each."""
        shares = zip(encoders, samples, plans, strict=True)
        chunks = [Chunk(state, torch.from_numpy(taken), plan) for state, taken, plan in shares]
        states = self._encoder.step(chunks)
        wait_for(device_of(self._module))
        return states

    def hear(self, decoders: Sequence[DecoderState], frames: Sequence[Tensor]) -> list[int]:
        """Pool what was encoded; give the pooled frames that each stream gained."""
        return self._decoder.hear(decoders, frames, [False] * len(decoders))

    def hear_whole(self, windows: Sequence[Samples], plan: DepthPlan) -> list[DecoderState]:
        """Encode whole utterances with full context; give a decoder of each."""
        decoders = [self._begin.whole() for _ in windows]
        frames = _encoded(self._module, windows, plan)
        self._decoder.hear(decoders, frames, [True] * len(decoders))
        return decoders

    def complete(
        self, encoders: Sequence[EncoderState], decoders: Sequence[DecoderState]
    ) -> list[int]:
        """Give on what waits in each stream's encoder, and complete its last group of frames."""
        frames = self._encoder.finish(encoders)
        return self._decoder.hear(decoders, frames, [True] * len(decoders))

    def write(
        self,
        decoders: Sequence[DecoderState],
        most_tokens: Sequence[int],
        ended: Sequence[bool],
        most_calls: int | None,
    ) -> None:
        """Bring transcripts up to date."""
        self._decoder.write(decoders, most_tokens, ended, most_calls)


@dataclass(frozen=True, slots=True)
class KeptRows:
    """How many rows of one layer are kept."""

    num_rows: int


class WindowedState:
    """What one stream's encoder keeps; there is nothing before its first chunk, which has a plan.

    Args:
        model: in eval mode.
    """

    def __init__(self, model: MoonshineStreaming) -> None:
        self._model = model
        self._live: LiveEncoder | None = None
        self._placed = 0

    @property
    def front_end(self) -> "WindowedState":
        """What counts the frames."""
        return self

    @property
    def num_frames(self) -> int:
        """Frames the front end made; those the last layers wait for among them."""
        return 0 if self._live is None else self._live.num_frames

    @property
    def num_final_frames(self) -> int:
        """Frames that the decoder was given."""
        return self._placed

    @property
    def layers(self) -> list[KeptRows]:
        """Keys and values in reach."""
        kept = [0] * self._model.num_layers if self._live is None else self._live.kept_rows
        return list(map(KeptRows, kept))

    @property
    def num_bytes(self) -> int:
        """Bytes of caches and tails."""
        return 0 if self._live is None else self._live.num_bytes

    @property
    def waits(self) -> bool:
        """Whether the end costs anything: what waits was booked when it came."""
        return False

    def turns(self, plan: DepthPlan, num_frames: int, *, ended: bool) -> Sequence[LayerTurn]:
        """Say what each layer would do with a chunk; rows are booked as they come in."""
        return Progress(0).turns(plan, num_frames, ended=ended)

    def check(self, plan: DepthPlan) -> None:
        """Refuse a plan that the utterance cannot go on with; see `WindowedMachine.check`."""
        self._model.check(plan)
        if self._live is not None and _skipped(plan) != _skipped(self._live.plan):
            raise PlanInvalid(
                f"expected a plan that skips what the utterance's first one does, got {str(plan)!r}"
            )

    def push(self, samples_S: Tensor, plan: DepthPlan) -> Tensor:
        """Take the samples of a chunk; give the frames that became final, with positions, x_TD."""
        if self._live is None:
            self._live = LiveEncoder(self._model, plan)
        elif plan != self._live.plan:
            self._live.change(plan)
        return self._place(self._live.push(samples_S))

    def finish(self) -> Tensor:
        """Give the frames that waited for more, with positions, x_TD."""
        if self._live is None:
            config = self._model.config
            return self._model.decoder.position_TD.new_zeros(0, config.dim)
        return self._place(self._live.finish())

    def _place(self, states_TD: Tensor) -> Tensor:
        placed_1TD = self._model.decoder.place(states_TD.unsqueeze(0), self._placed)
        self._placed += len(states_TD)
        return placed_1TD[0]


class WindowedMachine:
    """Runs a Moonshine Streaming's tensors.

    Args:
        module: the model.
        watched: its heads.
        begin: makes its decoder's states.
    """

    def __init__(self, module: MoonshineStreaming, watched: Watched, begin: Beginnings) -> None:
        self._module = module
        self._begin = begin
        self._device = device_of(module)
        self._decoder = LiveDecoder(module, watched, module.decoder.pool_placed)

    def open(self) -> tuple[WindowedState, DecoderState]:
        """Begin an utterance."""
        return WindowedState(self._module), self._begin.live()

    def check(self, plan: DepthPlan, encoder: WindowedState) -> None:
        """Refuse a plan that the utterance cannot go on with.

        Strides may change: a window is one of time, and the rows it reaches may stand for groups of
        any size. Which layers are skipped may not: a skipped layer keeps no rows, so what it would
        hear of the time before is not there.

        Raises:
            PlanInvalid: it cannot.
        """
        encoder.check(plan)

    def encode(
        self,
        encoders: Sequence[WindowedState],
        samples: Sequence[Samples],
        plans: Sequence[DepthPlan],
    ) -> list[Tensor]:
        """Encode a chunk of each stream; give the frames that became final of each, x_TD."""
        shares = zip(encoders, samples, plans, strict=True)
        states = [
            encoder.push(torch.from_numpy(taken).to(self._device), plan)
            for encoder, taken, plan in shares
        ]
        wait_for(self._device)
        return states

    def hear(self, decoders: Sequence[DecoderState], frames: Sequence[Tensor]) -> list[int]:
        """Pool what was encoded; give the pooled frames that each stream gained."""
        return self._decoder.hear(decoders, frames, [False] * len(decoders))

    def hear_whole(self, windows: Sequence[Samples], plan: DepthPlan) -> list[DecoderState]:
        """Encode whole utterances with full context; give a decoder of each."""
        decoders = [self._begin.whole() for _ in windows]
        frames = _encoded(self._module, windows, plan)
        decoder = self._module.decoder
        frames = [decoder.place(frames_TD.unsqueeze(0), 0)[0] for frames_TD in frames]
        self._decoder.hear(decoders, frames, [True] * len(decoders))
        return decoders

    def complete(
        self, encoders: Sequence[WindowedState], decoders: Sequence[DecoderState]
    ) -> list[int]:
        """Take the frames that waited, and complete the last group; give what each stream gained."""
        frames = [encoder.finish() for encoder in encoders]
        return self._decoder.hear(decoders, frames, [True] * len(decoders))

    def write(
        self,
        decoders: Sequence[DecoderState],
        most_tokens: Sequence[int],
        ended: Sequence[bool],
        most_calls: int | None,
    ) -> None:
        """Bring transcripts up to date."""
        self._decoder.write(decoders, most_tokens, ended, most_calls)


def _encoded(
    module: Moonshine | MoonshineStreaming, windows: Sequence[Samples], plan: DepthPlan
) -> list[Tensor]:
    """Encode whole utterances as one batch with full context; give x_TD of each."""
    samples_BS = pad_sequence(list(map(torch.from_numpy, windows)), batch_first=True)
    device = device_of(module)
    num_samples_B = torch.tensor([len(samples) for samples in windows], device=device)
    schedule = DepthSchedule.constant(plan)
    encoded = module.encode(samples_BS.to(device), num_samples_B, schedule, None)
    wait_for(device)
    lengths = encoded.num_frames_B.tolist()
    return [x_TD[:length] for x_TD, length in zip(encoded.states_BTD, lengths, strict=True)]


def _skipped(plan: DepthPlan) -> tuple[bool, ...]:
    return tuple(stride == 0 for stride in plan.strides)
