"""Where speech is: the gate that keeps silence and noise away from the recogniser.

A recogniser invents sentences when it hears none, so every window is asked about first. The
probabilities are Silero VAD's, 32 ms a frame, after the level has been brought up: speech that
peaks at -35 dBFS counts as much as speech close to the microphone.
"""

from collections.abc import Iterator
from importlib.resources import files
from typing import Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from model_store.audio.resample import SAMPLE_RATE_HZ

Samples: TypeAlias = npt.NDArray[np.float32]

FRAME_SAMPLES = 512  # what one probability speaks for: 32 ms at 16 kHz
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ

ONSET = 0.5
"""Speech begins at a frame this probable ..."""
HOLD = 0.35
"""... and goes on over frames above this one (both as Silero's own iterator has them)."""
_MIN_PAUSE_FRAMES = 4  # a stop consonant is shorter than 128 ms
_MIN_ONSET_FRAMES = 3  # 96 ms: the shortest words are longer, most knocks are not


class Listener(Protocol):
    """Hears one recording from its start, in pieces of any length."""

    def push(self, samples: Samples) -> Samples:
        """Return the probability of speech of each frame that these samples complete."""
        ...

    def finish(self) -> Samples:
        """Return that of the last frame, completed with silence; nothing if none was begun."""
        ...


class SpeechGate(Protocol):
    """Opens a listener for each recording; may be shared by threads, a listener may not."""

    def listen(self) -> Listener:
        """Start on a new recording."""
        ...


def speech_spans(probabilities: npt.NDArray[np.floating]) -> list[tuple[int, int]]:
    """Return the stretches [start, end) of frames that hold speech, in order."""
    spans: list[tuple[int, int]] = []
    for start, end in _runs(np.asarray(probabilities) >= HOLD):
        if spans and start - spans[-1][1] < _MIN_PAUSE_FRAMES:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    is_onset = np.asarray(probabilities) >= ONSET
    return [span for span in spans if is_onset[slice(*span)].sum() >= _MIN_ONSET_FRAMES]


def has_speech(gate: SpeechGate, samples: Samples) -> bool:
    """Say whether somebody speaks anywhere in a recording."""
    listener = gate.listen()
    return bool(speech_spans(np.concatenate([listener.push(samples), listener.finish()])))


class SileroGate:
    """Silero VAD 6.2 by ONNX Runtime, one thread, many frames a call.

    Source: https://github.com/snakers4/silero-vad, release 6.2.3, MIT, the sequence graph of pull
    request 784: equal to the frame-by-frame graph bit for bit at 0.45 of its cost.
    """

    def __init__(self) -> None:
        import onnxruntime  # 0.2 s, and nothing else in this room needs it

        onnxruntime.disable_telemetry_events()  # what runs here is nobody else's business
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        graph = files("model_store.audio").joinpath("silero_vad_16k_sequence.onnx").read_bytes()
        self._session = onnxruntime.InferenceSession(
            graph, sess_options=options, providers=["CPUExecutionProvider"]
        )

    def listen(self) -> "SileroListener":
        """Start on a new recording."""
        return SileroListener(self)

    def run(
        self, frames: Samples, hidden: Samples, cell: Samples
    ) -> tuple[Samples, Samples, Samples]:
        """Run the graph.

        Shapes: frames (N, 64 + 512), hidden and cell (1, 1, 128) -> (N,), (1, 1, 128) twice
        """
        inputs = {"input": frames, "h": hidden, "c": cell}
        outputs = self._session.run(["speech_probs", "hn", "cn"], inputs)
        return cast("tuple[Samples, Samples, Samples]", tuple(outputs))


class SileroListener:
    """The state of one recording: the graph's, the level's, and samples short of a frame.

    The result does not depend on how the recording was cut into pushes.
    """

    _CONTEXT_SAMPLES = 64  # the graph reads the end of the previous frame before each frame
    _CALL_FRAMES = 512  # 16 s; bounds the memory of a call

    def __init__(self, gate: SileroGate) -> None:
        self._gate = gate
        self._hidden = np.zeros((1, 1, 128), np.float32)
        self._cell = np.zeros((1, 1, 128), np.float32)
        self._level = _Level()
        self._rest = np.zeros(self._CONTEXT_SAMPLES, np.float32)
        """The context of the next frame and what there is of that frame."""

    def push(self, samples: Samples) -> Samples:
        """Return the probability of speech of each frame that these samples complete."""
        return np.concatenate([np.zeros(0, np.float32), *self._calls(samples)])

    def finish(self) -> Samples:
        """Return that of the last frame, completed with silence; nothing if none was begun."""
        num_begun = len(self._rest) - self._CONTEXT_SAMPLES
        if not num_begun:
            return np.zeros(0, np.float32)
        return self.push(np.zeros(FRAME_SAMPLES - num_begun, np.float32))

    def _calls(self, samples: Samples) -> Iterator[Samples]:
        samples = np.concatenate([self._rest, samples])
        num_frames = (len(samples) - self._CONTEXT_SAMPLES) // FRAME_SAMPLES
        self._rest = samples[num_frames * FRAME_SAMPLES :].copy()
        if not num_frames:
            return
        width = self._CONTEXT_SAMPLES + FRAME_SAMPLES
        frames = np.lib.stride_tricks.sliding_window_view(samples, width)[::FRAME_SAMPLES]
        for start in range(0, num_frames, self._CALL_FRAMES):
            levelled = self._level.raise_quiet(frames[start : start + self._CALL_FRAMES])
            values, self._hidden, self._cell = self._gate.run(levelled, self._hidden, self._cell)
            yield values.reshape(-1)


class _Level:
    """Brings quiet speech up: follows the loudest of the last seconds, frame by frame.

    The level jumps up at once and falls slowly; a frame is scaled as a whole, its context with it,
    so that no step falls inside what the graph sees. Nothing is ever turned down.
    """

    TARGET_DB = -16.0  # RMS of the loudest frame, dB of full scale: speech then peaks near -4 dB
    MAX_GAIN_DB = 44.0  # speech that peaks at -48 dB is still brought all the way up
    FALL_DB = 6.0 * FRAME_S  # per frame: 6 dB a second
    FLOOR_DB = -120.0

    def __init__(self) -> None:
        self._level_db = self.FLOOR_DB

    def raise_quiet(self, frames: Samples) -> Samples:
        new = frames[:, -FRAME_SAMPLES:]  # the context was counted with the frame before
        centred = frames - new.mean(axis=1, keepdims=True)  # an offset is not loudness
        power = np.square(centred[:, -FRAME_SAMPLES:]).mean(axis=1, dtype=np.float64)
        level_db = 10 * np.log10(np.maximum(power, 10 ** (self.FLOOR_DB / 10)))
        # max over k <= t of (level_k - fall * (t - k)), as one running maximum
        fall_db = self.FALL_DB * np.arange(1, len(frames) + 1)
        held_db = np.maximum.accumulate(np.append(self._level_db, level_db + fall_db))[1:] - fall_db
        self._level_db = float(held_db[-1])
        gain_db = np.clip(self.TARGET_DB - held_db, 0.0, self.MAX_GAIN_DB)
        gain = (10 ** (gain_db / 20)).astype(np.float32)[:, None]
        return np.clip(centred * gain, -1.0, 1.0)


def _runs(mask: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Give the stretches [start, end) where the mask is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    yield from ((int(start), int(end)) for start, end in edges.reshape(-1, 2))
