"""Where speech is: the gate that keeps silence and noise away from the recogniser.

A recogniser invents sentences when it hears none, so every window is asked about first. The
probabilities are Silero VAD's, 32 ms a frame, after the level has been brought up: speech that
peaks at -35 dBFS counts as much as speech close to the microphone.
"""

from collections.abc import Iterator, Sequence
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

CALL_FRAMES = 512
"""Frames of one call of the graph, 16 s; bounds its memory."""
REST_FRAMES = 2048
"""So many frames without speech, 65 s, counted from a recording's beginning, and the graph begins anew: over
minutes of noise its memory drifts, until speech is heard 0.4 s late and its first word is lost. Not more
often, as it takes a clatter for speech more easily while it is new."""


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

    def push_together(
        self, listeners: Sequence[Listener], samples: Sequence[Samples]
    ) -> list[Samples]:
        """Push to several listeners of this gate, each at most once; what each would return."""
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
    """Silero VAD 6.2 by ONNX Runtime, one thread, all frames of many recordings a call.

    Source: https://github.com/snakers4/silero-vad, release 6.2.3, MIT, the sequence graph of pull
    request 784, rewritten for many recordings by `model_store.recipes.batch_gate`: probabilities
    within 1e-5 of the published graph's at a third of its cost.
    """

    def __init__(self) -> None:
        import onnxruntime  # 0.2 s, and nothing else in this room needs it

        onnxruntime.disable_telemetry_events()  # what runs here is nobody else's business
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # a plan of memory is kept for every shape of inputs
        graph = files("model_store.audio").joinpath("silero_vad_16k_streams.onnx").read_bytes()
        self._session = onnxruntime.InferenceSession(
            graph, sess_options=options, providers=["CPUExecutionProvider"]
        )

    def listen(self) -> "SileroListener":
        """Start on a new recording."""
        return SileroListener(self)

    def push_together(
        self, listeners: Sequence[Listener], samples: Sequence[Samples]
    ) -> list[Samples]:
        """Push to several listeners of this gate, each at most once; what each would return."""
        ours = [listener for listener in listeners if isinstance(listener, SileroListener)]
        assert len(ours) == len(listeners), "expected listeners of this gate"
        frames = [one.take(pushed) for one, pushed in zip(ours, samples, strict=True)]
        found: list[list[Samples]] = [[] for _ in ours]
        while left := [place for place, rows in enumerate(frames) if len(rows)]:
            # Who has few frames is filled up to who has most: no further than a call is long.
            quota = max(1, CALL_FRAMES // len(left))
            turn = [frames[place][: min(quota, ours[place].frames_to_rest)] for place in left]
            answers = self._run([ours[place] for place in left], turn)
            for place, values in zip(left, answers, strict=True):
                ours[place].heard(values)
                found[place].append(values)
                frames[place] = frames[place][len(values) :]
        return [np.concatenate([np.zeros(0, np.float32), *parts]) for parts in found]

    def _run(
        self, listeners: Sequence["SileroListener"], frames: Sequence[Samples]
    ) -> list[Samples]:
        """Run the graph over (N, 64 + 512) frames of each listener, which go on from their state."""
        levelled = [
            one.level.raise_quiet(rows) for one, rows in zip(listeners, frames, strict=True)
        ]
        lengths_B = np.array([len(rows) for rows in levelled], np.int32)
        time_T1 = np.arange(lengths_B.max())[:, None]
        there_TB = time_T1 < lengths_B
        order_TB = np.where(there_TB, np.cumsum(lengths_B) - lengths_B + time_T1, 0)
        place_N = np.flatnonzero(there_TB)[np.argsort(order_TB[there_TB])]
        inputs = {
            "input": np.concatenate(levelled),
            "order": order_TB,
            "lengths": lengths_B,
            "place": place_N,
            "h": np.concatenate([one.hidden for one in listeners], axis=1),
            "c": np.concatenate([one.cell for one in listeners], axis=1),
        }
        values_N, hidden, cell = cast(
            "tuple[Samples, Samples, Samples]",
            tuple(self._session.run(["speech_probs", "hn", "cn"], inputs)),
        )
        for place, one in enumerate(listeners):
            one.hidden, one.cell = hidden[:, place : place + 1], cell[:, place : place + 1]
        return np.split(values_N, np.cumsum(lengths_B)[:-1])


class SileroListener:
    """The state of one recording: the graph's, the level's, and samples short of a frame.

    The result does not depend on how the recording was cut into pushes, nor on who is pushed to
    beside it.
    """

    _CONTEXT_SAMPLES = 64  # the graph reads the end of the previous frame before each frame

    def __init__(self, gate: SileroGate) -> None:
        self._gate = gate
        self.hidden = np.zeros((1, 1, 128), np.float32)
        self.cell = np.zeros((1, 1, 128), np.float32)
        self.level = _Level()
        self._num_frames = 0
        self._likeliest = 0.0
        self._rest = np.zeros(self._CONTEXT_SAMPLES, np.float32)
        """The context of the next frame and what there is of that frame."""

    def push(self, samples: Samples) -> Samples:
        """Return the probability of speech of each frame that these samples complete."""
        return self._gate.push_together([self], [samples])[0]

    def finish(self) -> Samples:
        """Return that of the last frame, completed with silence; nothing if none was begun."""
        num_begun = len(self._rest) - self._CONTEXT_SAMPLES
        if not num_begun:
            return np.zeros(0, np.float32)
        return self.push(np.zeros(FRAME_SAMPLES - num_begun, np.float32))

    @property
    def frames_to_rest(self) -> int:
        """Frames up to the next place where the graph may begin anew."""
        return REST_FRAMES - self._num_frames % REST_FRAMES

    def heard(self, probabilities: Samples) -> None:
        """Take the probabilities of further frames, no more than `frames_to_rest`."""
        self._num_frames += len(probabilities)
        self._likeliest = max(self._likeliest, float(probabilities.max()))
        if self._num_frames % REST_FRAMES == 0:
            if self._likeliest < HOLD:
                self.hidden, self.cell = np.zeros_like(self.hidden), np.zeros_like(self.cell)
            self._likeliest = 0.0

    def take(self, samples: Samples) -> Samples:
        """Give the frames that these samples complete, (N, 64 + 512), and keep what is left."""
        samples = np.concatenate([self._rest, samples])
        num_frames = (len(samples) - self._CONTEXT_SAMPLES) // FRAME_SAMPLES
        self._rest = samples[num_frames * FRAME_SAMPLES :].copy()
        if not num_frames:
            return np.zeros((0, self._CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        width = self._CONTEXT_SAMPLES + FRAME_SAMPLES
        return np.lib.stride_tricks.sliding_window_view(samples, width)[::FRAME_SAMPLES]


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
