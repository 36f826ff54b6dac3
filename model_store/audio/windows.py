"""Cut audio of any length into windows a recogniser can take, at places where nobody speaks.

    audio    |......==.==...===.......................====.=====.==..====.==.......|
    windows  | no  |       speech |  no  |  no     |    speech    |  speech  | no  |

Windows tile the audio: each begins at the sample where the one before ended. Long silence is a
window of its own that is marked, so a recogniser can pass it by and no time is lost.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from model_store.audio.gate import FRAME_S, FRAME_SAMPLES, HOLD, Listener, SpeechGate, speech_spans
from model_store.audio.resample import SAMPLE_RATE_HZ

Samples: TypeAlias = npt.NDArray[np.float32]

MARGIN_S = 0.5
"""Silence that stays around speech: soft onsets and endings lie in it."""
LONG_PAUSE_S = 2.0
"""A pause this long ends a window."""
TURN_S = 1.0
"""As much sure silence does too: somebody else may go on, and a decoder loses words there."""
_WORTH_CUTTING_S = 1.75  # silence beyond the margin that deserves a window of its own
_SHORTEST_TAIL_S = 2.0  # a last window of a word or two would be recognised without context
_ENOUGH_PAUSE_S = 0.5  # between pauses longer than this the later one wins
_SHORTEST_PAUSE_S = 0.1
_SURE = 0.1  # whispered words in a "pause" get more than this from the gate
_SMOOTHING_FRAMES = 5  # 160 ms, a syllable


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of audio [start_s, end_s) with its samples, and whether anybody speaks in it."""

    samples: Samples
    start_s: float
    end_s: float
    speech: bool


def cut_windows(
    blocks: Iterable[Samples],
    *,
    gate: SpeechGate,
    max_window_s: float = 24.0,
    min_window_s: float = 8.0,
) -> Iterator[Window]:
    """Cut a stream of 16 kHz blocks into windows; how it came in blocks does not matter.

    Args:
        blocks: Mono samples at 16 kHz.
        gate: Tells where speech is.
        max_window_s: No window is longer.
        min_window_s: Where speech goes on for more than `max_window_s`, it is cut after this.

    Yields:
        Windows that tile the audio. Around speech `MARGIN_S` of silence is left, and a little more
        where that spares a cut: each one may cost a word. Longer silence comes in windows with
        `speech` false.
    """
    assert 1.0 <= min_window_s <= max_window_s, "expected 1 <= min_window_s <= max_window_s"
    cutter = _Cutter(int(min_window_s / FRAME_S), int(max_window_s / FRAME_S))
    waiting = _Waiting(gate.listen())
    for block in blocks:
        waiting.append(block)
        while waiting.num_frames > cutter.needed_frames:
            yield waiting.take(*_cut(cutter, waiting, is_last=False))
    waiting.finish()
    while waiting.num_frames:
        is_last = waiting.num_frames <= cutter.needed_frames
        yield waiting.take(*_cut(cutter, waiting, is_last=is_last))


def _cut(cutter: "_Cutter", waiting: "_Waiting", *, is_last: bool) -> tuple[int, bool]:
    probabilities = waiting.probabilities[: cutter.needed_frames]
    spans = speech_spans(probabilities)
    num_frames = len(probabilities)
    if not spans:
        return cutter.silent(num_frames, is_last=is_last), False
    leading = cutter.leading(spans)
    if leading:
        return leading, False
    speech_end = cutter.speech_end(spans, probabilities, is_last=is_last)
    if speech_end <= cutter.max_frames:
        return cutter.with_margin(speech_end, num_frames), True
    loudness = waiting.loudness_db(cutter.max_frames)
    latest = cutter.latest_cut(speech_end, is_last=is_last)
    return cutter.quiet_place(probabilities, loudness, latest), True


class _Waiting:
    """Samples that belong to no window yet, with the probability of speech of each frame."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._samples = np.zeros(0, np.float32)
        self._start = 0  # position of the first waiting sample in the audio
        self.probabilities = np.zeros(0, np.float32)

    @property
    def num_frames(self) -> int:
        return len(self.probabilities)

    def append(self, block: Samples) -> None:
        self._samples = np.concatenate([self._samples, block])
        self._add(self._listener.push(block))

    def finish(self) -> None:
        self._add(self._listener.finish())

    def take(self, num_frames: int, speech: bool) -> Window:  # noqa: FBT001 - unpacked from a pair
        taken = self._samples[: num_frames * FRAME_SAMPLES].copy()
        end = self._start + len(taken)
        window = Window(taken, self._start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, speech)
        self._samples = self._samples[len(taken) :].copy()
        self.probabilities = self.probabilities[num_frames:]
        self._start = end
        return window

    def loudness_db(self, num_frames: int) -> npt.NDArray[np.float64]:
        """Return the level of the first frames."""
        frames = self._samples[: num_frames * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
        return 10 * np.log10(np.square(frames).mean(axis=1, dtype=np.float64) + 1e-12)

    def _add(self, probabilities: Samples) -> None:
        self.probabilities = np.concatenate([self.probabilities, probabilities])


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Decides where the next window ends; everything in frames from the last cut on."""

    min_frames: int
    max_frames: int

    _MARGIN = int(MARGIN_S / FRAME_S)
    _LONG_PAUSE = int(LONG_PAUSE_S / FRAME_S)
    _TURN = int(TURN_S / FRAME_S)
    _WORTH_CUTTING = int(_WORTH_CUTTING_S / FRAME_S)

    @property
    def needed_frames(self) -> int:
        """A window and the long pause that may follow: more would not change the decision."""
        return self.max_frames + self._LONG_PAUSE + self._MARGIN

    def silent(self, num_frames: int, *, is_last: bool) -> int:
        # What follows may be speech, whose margin is kept.
        return min(self.max_frames, num_frames if is_last else num_frames - self._MARGIN)

    def leading(self, spans: list[tuple[int, int]]) -> int:
        onset = spans[0][0] - self._MARGIN
        return min(self.max_frames, onset) if onset >= self._WORTH_CUTTING else 0

    def speech_end(
        self, spans: list[tuple[int, int]], probabilities: Samples, *, is_last: bool
    ) -> int:
        """Return where the last word before a long pause ends."""
        num_frames, end = len(probabilities), spans[0][1]
        for start, stop in spans[1:]:
            surely_silent = int((probabilities[end:start] < _SURE).sum())
            if start - end >= self._LONG_PAUSE or surely_silent >= self._TURN:
                return end
            end = stop
        return end if is_last or num_frames - end >= self._LONG_PAUSE else num_frames

    def with_margin(self, speech_end: int, num_frames: int) -> int:
        left = num_frames - speech_end - self._MARGIN
        end = speech_end + self._MARGIN if left >= self._WORTH_CUTTING else num_frames
        return min(self.max_frames, end)

    def latest_cut(self, speech_end: int, *, is_last: bool) -> int:
        if not is_last:
            return self.max_frames
        tail = int(_SHORTEST_TAIL_S / FRAME_S)
        return max(self.min_frames, min(self.max_frames, speech_end - tail))

    def quiet_place(
        self,
        probabilities: Samples,
        loudness_db: npt.NDArray[np.float64],
        latest: int,
    ) -> int:
        """Return the middle of the longest pause, or the quietest syllable if there is none."""
        enough, best, length = int(_ENOUGH_PAUSE_S / FRAME_S), latest, 0
        start = self.min_frames
        for frame in range(self.min_frames, latest + 1):
            if frame < latest and probabilities[frame] < HOLD:
                continue
            if frame > start and min(frame - start, enough) >= max(length, 1):
                best, length = (start + frame) // 2, min(frame - start, enough)
            start = frame + 1
        if length * FRAME_S >= _SHORTEST_PAUSE_S or latest == self.min_frames:
            return best
        kernel = np.full(_SMOOTHING_FRAMES, 1 / _SMOOTHING_FRAMES)
        smooth_db = np.convolve(loudness_db, kernel, mode="same")[self.min_frames : latest]
        return self.min_frames + int(np.argmin(smooth_db))
