"""Moonshine Streaming's encoder while the audio is still coming: every frame is computed once.

Samples go in as they arrive, cut anywhere; frames come out as soon as they are final. What is kept
does not grow: the inputs that the convolutions still read, and for each layer the keys and values
that its window still reaches, one pair for each group of frames.

Dimensions: S = samples at 16 kHz, N = frames that arrive or leave, G = rows of a layer, L = rows
that are heard, D = channels, H = heads, K = channels of a head; the batch is one stream.
"""

from collections import deque
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.elastic import ElasticLayer
from model_store.backbones.moonshine_streaming import (
    CONV_STRIDE,
    KERNEL,
    STEP_SAMPLES,
    FrontEnd,
    MoonshineStreaming,
)
from model_store.backbones.moonshine_streaming_block import Spans, WindowedBlock
from model_store.depth import MAX_STRIDE, STRIDES, DepthPlan, DepthSchedule, Segment

LONGEST_PIECE_SAMPLES = 16_000
"""More than this is taken in parts, so that memory is bounded whatever is pushed."""


class LiveEncoder:
    """Encodes one stream; its frames equal those of `MoonshineStreaming.encode` over all of it.

    Args:
        model: in eval mode.
        plan: until `change` gives another.
    """

    def __init__(self, model: MoonshineStreaming, plan: DepthPlan) -> None:
        self._norm = model.encoder.norm
        self._front_end = _LiveFrontEnd(model.encoder.front_end)
        model.check(plan)
        self._layers = [
            _live(layer, stride)
            for layer, stride in zip(model.encoder.stack.layers, plan.strides, strict=True)
        ]
        self._schedule = DepthSchedule.constant(plan)
        self._model = model

    @property
    def schedule(self) -> DepthSchedule:
        """The plans so far, as the offline forward takes them."""
        return self._schedule

    @property
    def num_bytes(self) -> int:
        """Memory that the stream holds between two calls, what lies behind cut tensors included."""
        return self._front_end.num_bytes + sum(layer.num_bytes for layer in self._layers)

    @property
    def num_frames(self) -> int:
        """Frames that came in; the last of them may still wait for what they hear."""
        return self._front_end.num_frames

    @property
    def plan(self) -> DepthPlan:
        """The one that holds for the frames that come next."""
        return self._schedule.parts[-1][1]

    @property
    def kept_rows(self) -> list[int]:
        """By layer, the rows whose keys and values are kept."""
        return [layer.kept_rows for layer in self._layers]

    def change(self, plan: DepthPlan) -> int:
        """Go on with another plan; give the first frame it holds for.

        It is the next multiple of the largest stride, so at most 7 frames away.

        Raises:
            PlanInvalid: the plan skips other layers than the one so far, or has another number.
        """
        self._model.check(plan)
        start = -(-self._front_end.num_frames // MAX_STRIDE) * MAX_STRIDE
        kept = [part for part in self._schedule.parts if part[0] < start]
        self._schedule = DepthSchedule((*kept, (start, plan)))
        return start

    @torch.inference_mode()
    def push(self, samples_S: Tensor) -> Tensor:
        """Take samples, any number of them; give the frames that became final, (N, D)."""
        final = [
            self._through_layers(self._front_end.push(piece_S), ended=False)
            for piece_S in samples_S.split(LONGEST_PIECE_SAMPLES)
        ]
        return torch.cat(final)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """End the stream; give the frames that waited for more, (N, D)."""
        return self._through_layers(self._front_end.finish(), ended=True)

    def _through_layers(self, x_BND: Tensor, *, ended: bool) -> Tensor:
        for index, layer in enumerate(self._layers):
            known = layer.num_frames + x_BND.shape[1]
            segments = self._schedule.segments(index, known) if known else ()
            x_BND = layer.push(x_BND, segments, ended=ended)
        return self._norm(x_BND)[0]


class _LiveConvolution:
    """A causal convolution; keeps the inputs that its next outputs read."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        self._convolution = convolution
        self._rest_BDN = torch.zeros(
            1, convolution.in_channels, KERNEL - 1, device=convolution.weight.device
        )

    @property
    def num_bytes(self) -> int:
        return _held(self._rest_BDN)

    def push(self, x_BDN: Tensor) -> Tensor:
        x_BDN = torch.cat([self._rest_BDN, x_BDN], dim=2)
        num_out = max(0, (x_BDN.shape[2] - KERNEL) // CONV_STRIDE + 1)
        self._rest_BDN = x_BDN[:, :, CONV_STRIDE * num_out :].clone()
        if not num_out:
            return x_BDN.new_zeros(1, self._convolution.out_channels, 0)
        return self._convolution(x_BDN)


class _LiveFrontEnd:
    """Samples to frames; keeps less than a step of samples."""

    def __init__(self, front_end: FrontEnd) -> None:
        self._front_end = front_end
        self._rest_S = torch.zeros(0, device=front_end.step.weight.device)
        self._conv1 = _LiveConvolution(front_end.conv1)
        self._conv2 = _LiveConvolution(front_end.conv2)
        self.num_frames = 0

    @property
    def num_bytes(self) -> int:
        return _held(self._rest_S) + self._conv1.num_bytes + self._conv2.num_bytes

    def push(self, samples_S: Tensor) -> Tensor:
        samples_S = torch.cat([self._rest_S, samples_S])
        num_steps = len(samples_S) // STEP_SAMPLES
        self._rest_S = samples_S[num_steps * STEP_SAMPLES :].clone()
        if not num_steps:
            return samples_S.new_zeros(1, 0, self._front_end.step.out_features)
        e_BDN = self._front_end.steps(samples_S.unsqueeze(0))
        x_BDN = self._conv2.push(F.silu(self._conv1.push(e_BDN)))
        self.num_frames += x_BDN.shape[2]
        return x_BDN.transpose(1, 2)

    def finish(self) -> Tensor:
        # Shorter than one step counts as one frame, as in a whole utterance.
        missing = 0 if self.num_frames else STEP_SAMPLES - len(self._rest_S)
        return self.push(self._rest_S.new_zeros(missing))


class _LiveLayer:
    """A layer that runs: frames and rows that wait, and the keys and values they may still hear."""

    def __init__(self, layer: ElasticLayer, block: WindowedBlock) -> None:
        self._layer = layer
        self._block = block
        weight = block.attention.qkv.weight
        dim, heads = weight.shape[1], block.attention.num_heads
        head_dim = weight.shape[0] // (3 * heads)
        none_BHGK = torch.zeros(1, heads, 0, head_dim, device=weight.device)
        none_BGD = torch.zeros(1, 0, dim, device=weight.device)
        # From the first frame not given on: frames, and the rows that are made of them so far.
        self._given_on = 0
        self._frames_BND = none_BGD
        self._rows: deque[int] = deque()
        self._row_BGD, self._query_BHGK = none_BGD, none_BHGK
        # Every row in reach, those that wait among them.
        self._grouped = 0
        self._key_BHLK = self._value_BHLK = none_BHGK
        none_L = torch.zeros(0, dtype=torch.long, device=weight.device)
        self._keys = Spans(none_L, none_L)

    @property
    def num_frames(self) -> int:
        """Frames that came in so far."""
        return self._given_on + self._frames_BND.shape[1]

    @property
    def kept_rows(self) -> int:
        """Rows in reach."""
        return self._key_BHLK.shape[2]

    @property
    def num_bytes(self) -> int:
        held = (self._frames_BND, self._row_BGD, self._query_BHGK, self._key_BHLK, self._value_BHLK)
        return _held(*held, self._keys.first_G, self._keys.last_G)

    def push(self, x_BND: Tensor, segments: Sequence[Segment], *, ended: bool) -> Tensor:
        """Take frames; give those whose rows have heard all they will."""
        self._frames_BND = torch.cat([self._frames_BND, x_BND], dim=1)
        for part in segments:
            self._group(part, ended=ended)
        ready = self._ready(ended=ended)
        strides = [self._rows.popleft() for _ in range(ready)]
        given = [self._run(stride, len(list(rows))) for stride, rows in groupby(strides)]
        if not given:
            return x_BND[:, :0]
        self._forget()
        return torch.cat(given, dim=1)

    def _group(self, part: Segment, *, ended: bool) -> None:
        """Make rows of the frames that no row has yet; a last group that ends early is completed."""
        start = max(part.start_frame, self._grouped)
        frames = part.end_frame - start
        rows = -(-frames // part.stride) if ended else frames // part.stride
        if rows <= 0:
            return
        first = start - self._given_on
        x_BND = self._frames_BND[:, first : first + rows * part.stride]
        row_BGD = _pooled(self._layer, x_BND, part.stride)
        query_BHGK, key_BHGK, value_BHGK = self._block.project(row_BGD, STRIDES.index(part.stride))
        self._row_BGD = torch.cat([self._row_BGD, row_BGD], dim=1)
        self._query_BHGK = torch.cat([self._query_BHGK, query_BHGK], dim=2)
        self._key_BHLK = torch.cat([self._key_BHLK, key_BHGK], dim=2)
        self._value_BHLK = torch.cat([self._value_BHLK, value_BHGK], dim=2)
        added = _spans(start, part.stride, rows, row_BGD.device)
        self._keys = Spans(
            torch.cat([self._keys.first_G, added.first_G]),
            torch.cat([self._keys.last_G, added.last_G]),
        )
        self._rows.extend([part.stride] * rows)
        self._grouped = start + rows * part.stride

    def _ready(self, *, ended: bool) -> int:
        """Count the rows from the first on for which everything they hear is there."""
        if ended:
            return len(self._rows)
        end, ready = self._given_on, 0
        for stride in self._rows:
            end += stride
            if end + self._block.window.ahead > self._grouped:
                break
            ready += 1
        return ready

    def _run(self, stride: int, rows: int) -> Tensor:
        """Finish the first rows, all of one stride, and give the frames they stand for."""
        spans = _spans(self._given_on, stride, rows, self._row_BGD.device)
        mask_BGL = self._block.window.mask(spans, self._keys).unsqueeze(0)
        row_BGD, query_BHGK = self._row_BGD[:, :rows], self._query_BHGK[:, :, :rows]
        heard_BGD = self._block.attention.hear(
            query_BHGK, self._key_BHLK, self._value_BHLK, mask_BGL
        )
        done_BGD = self._block.finish(row_BGD, heard_BGD, STRIDES.index(stride))
        x_BND = self._frames_BND[:, : rows * stride]
        given_BND = (
            done_BGD
            if stride == 1
            else x_BND + _given_back(self._layer, done_BGD - row_BGD, stride)[:, : x_BND.shape[1]]
        )
        self._given_on += x_BND.shape[1]
        self._frames_BND = self._frames_BND[:, rows * stride :]
        self._row_BGD = self._row_BGD[:, rows:]
        self._query_BHGK = self._query_BHGK[:, :, rows:]
        return given_BND

    def _forget(self) -> None:
        """Drop the keys that no later row reaches, and the memory behind what was cut off."""
        earliest = self._given_on - self._block.window.back
        gone = int((self._keys.last_G < earliest).sum())
        self._keys = Spans(self._keys.first_G[gone:].clone(), self._keys.last_G[gone:].clone())
        self._key_BHLK = self._key_BHLK[:, :, gone:].clone()
        self._value_BHLK = self._value_BHLK[:, :, gone:].clone()
        self._frames_BND = self._frames_BND.clone()
        self._row_BGD, self._query_BHGK = self._row_BGD.clone(), self._query_BHGK.clone()


class _SkippedLayer:
    """A layer that does not run: its bypass, which waits for nothing."""

    num_bytes = 0
    kept_rows = 0

    def __init__(self, layer: ElasticLayer) -> None:
        self._bypass = layer.bypass
        self.num_frames = 0

    def push(self, x_BND: Tensor, segments: Sequence[Segment], *, ended: bool) -> Tensor:
        self.num_frames += x_BND.shape[1]
        return x_BND if self._bypass is None else self._bypass(x_BND)


def _live(layer: nn.Module, stride: int) -> _LiveLayer | _SkippedLayer:
    assert isinstance(layer, ElasticLayer), "the stack holds elastic layers"
    if not stride:
        return _SkippedLayer(layer)
    assert isinstance(layer.block, WindowedBlock), "the layers of this backbone have windows"
    return _LiveLayer(layer, layer.block)


def _spans(first_frame: int, stride: int, rows: int, device: torch.device) -> Spans:
    first_G = torch.arange(first_frame, first_frame + rows * stride, stride, device=device)
    return Spans(first_G, first_G + stride - 1)


def _pooled(layer: ElasticLayer, x_BND: Tensor, stride: int) -> Tensor:
    """Weigh and add each group of frames; the last frame completes the last one."""
    if stride == 1:
        return x_BND
    missing = -x_BND.shape[1] % stride
    filled_BND = torch.cat([x_BND, x_BND[:, -1:].expand(-1, missing, -1)], dim=1)
    return (filled_BND.unflatten(1, (-1, stride)) * layer.pool_RD[str(stride)]).sum(2)


def _given_back(layer: ElasticLayer, change_BGD: Tensor, stride: int) -> Tensor:
    """Give each row's change to all frames of its group."""
    return (change_BGD.unsqueeze(2) * layer.give_RD[str(stride)]).flatten(1, 2)


def _held(*tensors: Tensor) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
