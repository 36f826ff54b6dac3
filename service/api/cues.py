"""Captions: a transcript's words put into cues that a viewer has time to read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.engine.base import Segment, Word

MAX_CHARS = 84
"""Two lines of 42 characters, the usual measure for subtitles."""
MAX_MS = 7000
"""Milliseconds; longer cues are read twice."""
MAX_PAUSE_MS = 1500
"""Milliseconds; a cue does not bridge a longer pause."""

_SENTENCE_ENDS = (".", "?", "!")
_MIN_SENTENCE_CHARS = 42  # do not make a cue of every "Yes."


@dataclass(frozen=True, slots=True)
class Cue:
    """A caption; times are whole milliseconds, and the end is after the start."""

    start_ms: int
    end_ms: int
    text: str


def cues_of(segments: Sequence[Segment]) -> list[Cue]:
    """Cut segments into cues; none overlaps the next, and all words are there once, in order."""
    rough = [cue for segment in segments for cue in _cues_of_segment(segment)]
    cues: list[Cue] = []
    for cue in rough:
        previous_end_ms = cues[-1].end_ms if cues else 0
        start_ms = max(cue.start_ms, previous_end_ms)
        cues.append(Cue(start_ms, max(cue.end_ms, start_ms + 1), cue.text))
    return cues


def _cues_of_segment(segment: Segment) -> Iterator[Cue]:
    # Without word times (or with words that do not make up the text) the segment stays whole.
    if not segment.words or _joined(segment.words) != _one_line(segment.text):
        yield Cue(_ms(segment.start_s), _ms(segment.end_s), _one_line(segment.text))
        return
    group: list[Word] = []
    for word in segment.words:
        if group and _ends_before(group, word):
            yield _cue(group)
            group = []
        group.append(word)
    yield _cue(group)


def _ends_before(group: Sequence[Word], word: Word) -> bool:
    text = _joined(group)
    return (
        len(text) + 1 + len(word.text) > MAX_CHARS
        or _ms(word.end_s) - _ms(group[0].start_s) > MAX_MS
        or _ms(word.start_s) - _ms(group[-1].end_s) > MAX_PAUSE_MS
        or (text.endswith(_SENTENCE_ENDS) and len(text) >= _MIN_SENTENCE_CHARS)
    )


def _cue(group: Sequence[Word]) -> Cue:
    return Cue(_ms(group[0].start_s), _ms(group[-1].end_s), _joined(group))


def _joined(words: Sequence[Word]) -> str:
    return " ".join(_one_line(word.text) for word in words)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _ms(time_s: float) -> int:
    return round(time_s * 1000)
