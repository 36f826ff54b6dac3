"""A causal Conformer chunk by chunk: every frame computed once.

Each layer keeps the keys and values of its rows so far, and the last rows that its convolution
reads, both at the layer's own rate. Equal to a forward over the whole utterance under the chunk
mask and the same plans.

    samples -> windows (tail of 240 samples kept) -> frames (tail of 3 windows kept) -> chunks

Dimensions: S = samples at 16 kHz, M = mel bands, N = windows (10 ms), T = encoder frames (40 ms),
G = rows of one layer, L = rows that are read, D = channels, H = heads, K = channels of a head.
"""

import dataclasses

import torch
from torch import Tensor

from model_store.backbones.attention import attend
from model_store.backbones.conformer import Conformer
from model_store.backbones.conformer_front_end import (
    FRAME_WINDOWS,
    RECEPTIVE_WINDOWS,
    ConformerFrontEnd,
)
from model_store.backbones.elastic import LayerRows
from model_store.backbones.incremental import KeyValueStore
from model_store.backbones.log_mel import HOP_SAMPLES, WINDOW_SAMPLES, LogMel
from model_store.depth import DepthPlan, DepthSchedule, Segment
from model_store.errors import PlanInvalid, StreamingUnsupported

MIRRORED_SAMPLES = WINDOW_SAMPLES // 2
"""Windows lie around their hop; the first ones mirror the utterance's begin."""


def can_stream(model: Conformer) -> bool:
    """Say whether a Conformer hears nothing of the future but what a frame itself reads."""
    config = model.config
    return config.causal and config.features == "log" and config.front_end == "plain"


class FrontEndStream:
    """Samples of one utterance, as they come, to frames.

    Args:
        front_end: of a model that can stream.
    """

    def __init__(self, front_end: ConformerFrontEnd) -> None:
        assert isinstance(front_end.features, LogMel), "expected log-mel features"
        self._front_end = front_end
        self._features = front_end.features
        self._samples_S = front_end.conv1.weight.new_zeros(0, dtype=torch.float32)
        self._mel_MN: Tensor | None = None
        self._mirrored = False
        self._num_samples = 0
        self._num_windows = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the tails."""
        mel = 0 if self._mel_MN is None else self._mel_MN.numel()
        return 4 * (self._samples_S.numel() + mel)

    def push(self, samples_S: Tensor, *, ends: bool) -> Tensor:
        """Take further samples; give the frames that they complete, x_TD."""
        self._num_samples += len(samples_S)
        self._samples_S = torch.cat([self._samples_S, samples_S.float()])
        new_MN = self._windows(ends=ends)
        self._mel_MN = new_MN if self._mel_MN is None else torch.cat([self._mel_MN, new_MN], 1)
        frames = max(0, (self._mel_MN.shape[1] - RECEPTIVE_WINDOWS) // FRAME_WINDOWS + 1)
        if not frames:
            return new_MN.new_zeros(0, self._front_end.conv2.out_channels)
        read = (frames - 1) * FRAME_WINDOWS + RECEPTIVE_WINDOWS
        places_B = torch.tensor([read], device=new_MN.device)
        x_1TD = self._front_end.convolved(self._mel_MN[:, :read].unsqueeze(0), places_B)
        self._mel_MN = self._mel_MN[:, frames * FRAME_WINDOWS :].clone()
        return x_1TD[0]

    def _windows(self, *, ends: bool) -> Tensor:
        if not self._mirrored:
            self._mirror(ends=ends)
        if ends:
            total = int(self._front_end.num_windows(torch.tensor(self._num_samples)))
            wanted = (total - self._num_windows - 1) * HOP_SAMPLES + WINDOW_SAMPLES
            missing = max(0, wanted - len(self._samples_S))
            self._samples_S = torch.cat([self._samples_S, self._samples_S.new_zeros(missing)])
        windows = (len(self._samples_S) - WINDOW_SAMPLES) // HOP_SAMPLES + 1
        if not self._mirrored or windows < 1:
            return self._samples_S.new_zeros(self._front_end.conv1.in_channels, 0)
        read = (windows - 1) * HOP_SAMPLES + WINDOW_SAMPLES
        mel_1MN = self._features.stream(self._samples_S[:read].unsqueeze(0))
        self._samples_S = self._samples_S[windows * HOP_SAMPLES :].clone()
        self._num_windows += windows
        return mel_1MN[0]

    def _mirror(self, *, ends: bool) -> None:
        missing = MIRRORED_SAMPLES + 1 - len(self._samples_S)
        if missing > 0 and not ends:
            return
        begin_S = torch.cat([self._samples_S, self._samples_S.new_zeros(max(0, missing))])
        mirror_S = begin_S[1 : MIRRORED_SAMPLES + 1].flip(0)
        self._samples_S = torch.cat([mirror_S, begin_S])
        self._mirrored = True


class ConvolutionHistory:
    """The last rows that a layer's convolution reads before new ones; see `elastic.RowHistory`."""

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows
        self._kept_1GD: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of the rows kept."""
        return 0 if self._kept_1GD is None else 4 * self._kept_1GD.numel()

    def extend(self, x_BGD: Tensor) -> Tensor:
        """Put the rows before in front, and keep the last."""
        before = self._kept_1GD
        if before is None:
            before = x_BGD.new_zeros(1, self._num_rows, x_BGD.shape[2])
        read_BLD = torch.cat([before, x_BGD], dim=1)
        self._kept_1GD = read_BLD[:, read_BLD.shape[1] - self._num_rows :].clone()
        return read_BLD


class AttentionHistory:
    """Keys and values of a layer's rows so far; see `elastic.RowCache`."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.store = KeyValueStore(dtype)

    def attend(self, query_BHGK: Tensor, key_BHGK: Tensor, value_BHGK: Tensor) -> Tensor:
        """Keep the new rows; attend to all."""
        self.store.append(key_BHGK[0], value_BHGK[0])
        key_BHLK, value_BHLK = self.store.read()
        # All of a chunk sees all of the chunk and all before it, so nothing is masked.
        return attend(query_BHGK, key_BHLK, value_BHLK, None)


class ConformerStream:
    """One utterance of a causal Conformer.

    Args:
        model: in eval mode.
        chunk_frames: frames of a whole chunk; the utterance's last may have fewer.
        cache_dtype: what keys and values are kept in.

    Raises:
        StreamingUnsupported: the model reads the future.
    """

    def __init__(
        self, model: Conformer, chunk_frames: int, cache_dtype: torch.dtype = torch.float32
    ) -> None:
        if not can_stream(model):
            raise StreamingUnsupported(
                "expected a conformer with causal convolutions over log-mel features, "
                "got one that hears whole utterances"
            )
        self._model = model
        self._chunk_frames = chunk_frames
        self._front_end = FrontEndStream(model.encoder.front_end)
        layers = range(model.num_layers)
        self.attention = [AttentionHistory(cache_dtype) for _ in layers]
        self._convolution = [ConvolutionHistory(model.config.kernel - 1) for _ in layers]
        weight = model.encoder.front_end.conv1.weight
        self._waiting_TD = weight.new_zeros(0, model.config.dim, dtype=torch.float32)
        self._skipped: tuple[bool, ...] | None = None
        self.num_frames = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of caches and tails."""
        kept = sum(history.num_bytes for history in self._convolution)
        cached = sum(history.store.num_bytes for history in self.attention)
        return self._front_end.num_bytes + 4 * self._waiting_TD.numel() + kept + cached

    @property
    def cached_rows(self) -> list[int]:
        """By layer, rows whose keys and values are kept."""
        return [history.store.num_rows for history in self.attention]

    def check(self, plan: DepthPlan) -> None:
        """Refuse a plan that this utterance cannot go on with.

        Raises:
            PlanInvalid: it skips other layers than the utterance's chunks so far, has another
                number of layers, or a stride that does not divide a chunk.
        """
        self._model.encoder.stack.check(DepthSchedule.constant(plan), self._chunk_frames)
        if self._skipped not in {None, _skipped(plan)}:
            raise PlanInvalid(
                f"expected a plan that skips what the utterance's first one does, got {str(plan)!r}"
            )

    @torch.inference_mode()
    def push(self, samples_S: Tensor, plan: DepthPlan, *, ends: bool = False) -> list[Tensor]:
        """Take further samples; give the states of each chunk that they complete, x_TD.

        Args:
            samples_S: follow those that came before; any number, none too.
            plan: of those chunks. Strides may differ from the last ones', as in a schedule.
            ends: nothing follows, so that the last chunk is what there is.

        Raises:
            PlanInvalid: as `check`; nothing has changed then.
        """
        self.check(plan)
        new_TD = self._front_end.push(samples_S, ends=ends)
        start = self.num_frames + len(self._waiting_TD)
        position_T = torch.arange(start, start + len(new_TD), device=new_TD.device)
        placed_TD = self._model.encoder.placed(new_TD, position_T)
        self._waiting_TD = torch.cat([self._waiting_TD, placed_TD])
        chunks: list[Tensor] = []
        while len(self._waiting_TD) >= self._chunk_frames or (ends and len(self._waiting_TD)):
            chunk_TD = self._waiting_TD[: self._chunk_frames]
            self._waiting_TD = self._waiting_TD[self._chunk_frames :].clone()
            chunks.append(self._run(chunk_TD, plan))
        return chunks

    def _run(self, x_TD: Tensor, plan: DepthPlan) -> Tensor:
        stack = self._model.encoder.stack
        first, frames = self.num_frames, len(x_TD)

        def rows_of(layer: int) -> LayerRows:
            segments = (Segment(0, frames, plan.strides[layer]),)
            if not plan.strides[layer]:
                return LayerRows(segments, None)
            context = stack.context(segments, x_TD.device, moved_frames=(first,))
            caches = {"cache": self.attention[layer], "history": self._convolution[layer]}
            return LayerRows(segments, dataclasses.replace(context, **caches))

        each = stack.run_each(x_TD.unsqueeze(0), rows_of, None)
        states_1TD = self._model.encoder.read(each, plan)
        self._skipped = _skipped(plan)
        self.num_frames += frames
        return states_1TD[0]


def _skipped(plan: DepthPlan) -> tuple[bool, ...]:
    return tuple(stride == 0 for stride in plan.strides)
