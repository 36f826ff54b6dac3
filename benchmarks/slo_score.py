"""From what streams were told to figures: lag, promises to a reader, depth, words.

A window is two moments of the monotonic clock; what was due, or told, between them counts.

| figure | from | to |
|---|---|---|
| lag | a packet is due | the first message whose `end` covers it, or that all is told |
| first partial | an utterance's start as the server states it | its first words, if their first one stays |
| partial interval | one partial of an utterance | the next |
| final | the last audio that it takes into account | the final |
| stable | a word's end in an unloaded pass over the whole clip | no later message changes it |
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.capacity_log import PACKET_S
from benchmarks.slo_sound import Script, Spoken
from benchmarks.slo_stream import Heard
from model_store.text.normalise import normalise
from model_store.text.wer import WordErrors, normalised_word_errors

LAG_LIMIT_S = 1.0
STABLE_LIMIT_S = 2.0
TOLERANCE_S = 1e-3  # times in messages are rounded to milliseconds

Window = tuple[float, float]
TimedWords = Sequence[tuple[str, float]]
"""Words as normalised, each with the time of its end from the clip's start."""


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word of a final: its times of stream time, and when it was settled."""

    text: str
    middle_s: float
    settled_s: float


@dataclass(slots=True)
class Figures:
    """What streams come to in a window; lists hold one value for each thing that happened."""

    offered_packets: int = 0
    accepted_packets: int = 0
    in_time_packets: int = 0
    lag_s: list[float] = field(default_factory=list[float])
    first_partial_s: list[float] = field(default_factory=list[float])
    first_words_taken_back: int = 0
    partial_interval_s: list[float] = field(default_factory=list[float])
    final_s: list[float] = field(default_factory=list[float])
    stable_s: list[float] = field(default_factory=list[float])
    words_to_settle: int = 0
    changed_words: list[int] = field(default_factory=list[int])
    dropped_s: float = 0.0
    layer_s: float = 0.0
    encoded_s: float = 0.0
    depth_changes: list[int] = field(default_factory=list[int])
    errors: list[WordErrors] = field(default_factory=list[WordErrors])


def collect(
    heard: Sequence[Heard],
    scripts: Sequence[Script],
    window: Window,
    timed: Mapping[str, TimedWords],
) -> Figures:
    """Add up what all streams were told.

    Args:
        heard: of each stream.
        scripts: what each says, in the same order.
        window: moments of the clock that `heard` has.
        timed: words of each clip, by its id, as an unloaded pass hears them.
    """
    figures = Figures()
    for one, script in zip(heard, scripts, strict=True):
        _count_packets(one, window, figures)
        if one.refused_s is None:
            _count_messages(one, window, figures)
            _count_words(one, script, window, timed, figures)
    return figures


def lags(heard: Heard) -> list[float]:
    """Give the lag of each packet that was covered, in order."""
    found: list[float] = []
    for now_s, message in heard.told:
        kind = message["type"]
        if kind in {"partial", "final", "lag", "done"}:
            end_s = message["audio_s" if kind == "done" else "end"]
            while len(found) < heard.num_packets and (
                (len(found) + 1) * PACKET_S <= end_s + TOLERANCE_S
            ):
                found.append(now_s - heard.due_s(len(found)))
    return found


def _count_packets(heard: Heard, window: Window, figures: Figures) -> None:
    due = [p for p in range(heard.num_packets) if window[0] <= heard.due_s(p) < window[1]]
    figures.offered_packets += len(due)
    if heard.refused_s is not None:
        return
    covered, dropped = lags(heard), list(_dropped(heard))
    for packet in due:
        figures.accepted_packets += 1
        end_s = (packet + 1) * PACKET_S
        if packet >= len(covered) or any(a < end_s <= b + TOLERANCE_S for a, b in dropped):
            continue  # never told, or told to be lost: late in any case
        figures.lag_s.append(covered[packet])
        figures.in_time_packets += covered[packet] < LAG_LIMIT_S


def _dropped(heard: Heard) -> Iterator[tuple[float, float]]:
    for _, message in heard.told:
        if message["type"] == "warning" and message["code"] == "audio_dropped":
            yield message["start"], message["end"]


def _count_messages(heard: Heard, window: Window, figures: Figures) -> None:
    changes, last_s, words = 0, dict[int, float](), dict[int, list[str]]()
    first = dict[int, tuple[float, str]]()
    for now_s, message in heard.told:
        kind, inside = message["type"], window[0] <= now_s < window[1]
        if kind == "depth":
            changes += inside
        elif kind == "warning" and inside:
            figures.dropped_s += message["end"] - message["start"]
        elif kind == "partial" and message["text"]:
            utterance, said = int(message["utt"]), str(message["text"]).split()
            if utterance in last_s and inside:
                figures.partial_interval_s.append(now_s - last_s[utterance])
                figures.changed_words.append(_changed(words[utterance], said))
            if utterance not in first:
                delay_s = now_s - heard.start_s - message["start"]
                first[utterance] = delay_s, normalise(said[0])
            last_s[utterance], words[utterance] = now_s, said
        elif kind == "final" and inside:
            _count_final(heard, now_s, message, first.get(int(message["utt"])), figures)
    figures.depth_changes.append(changes)


def _count_final(
    heard: Heard,
    now_s: float,
    message: Mapping[str, Any],
    first: tuple[float, str] | None,
    figures: Figures,
) -> None:
    figures.final_s.append(now_s - heard.start_s - message["end"])
    if message["layers"]:
        length_s = message["end"] - message["start"]
        figures.encoded_s += length_s
        figures.layer_s += length_s * message["layers"]
    if first is None:
        return
    stays = normalise(str(message["text"])).split()[:1] == first[1].split()[:1]
    if stays:
        figures.first_partial_s.append(first[0])
    else:
        figures.first_words_taken_back += 1


def _changed(before: Sequence[str], now: Sequence[str]) -> int:
    """Count the words of a caption that the next one changes or takes back."""
    return sum(1 for place, word in enumerate(before) if place >= len(now) or now[place] != word)


def final_words(heard: Heard) -> list[HeardWord]:
    """Give the words of all finals, with the stream time at which each was settled."""
    found: list[HeardWord] = []
    settled: dict[int, list[tuple[str, float]]] = {}
    for now_s, message in heard.told:
        if message["type"] == "partial":
            stable = str(message["text"])[: message["stable_chars"]].split()
            known = settled.setdefault(int(message["utt"]), [])
            known += [(word, now_s - heard.start_s) for word in stable[len(known) :]]
        elif message["type"] == "final":
            known = settled.pop(int(message["utt"]), [])
            for place, word in enumerate(message["words"]):
                text = str(word["word"])
                early = place < len(known) and known[place][0] == text
                at_s = known[place][1] if early else now_s - heard.start_s
                found.append(HeardWord(text, (word["start"] + word["end"]) / 2, at_s))
    return found


def _count_words(
    heard: Heard,
    script: Script,
    window: Window,
    timed: Mapping[str, TimedWords],
    figures: Figures,
) -> None:
    words = final_words(heard)
    bounds = _bounds(script.spoken)
    for spoken, (low, high) in zip(script.spoken, bounds, strict=True):
        inside = window[0] <= heard.start_s + spoken.start_s
        if not inside or heard.start_s + spoken.end_s >= window[1]:
            continue
        said = [word for word in words if low <= word.middle_s < high]
        text = " ".join(word.text for word in said)
        figures.errors.append(normalised_word_errors(spoken.clip.reference, text))
        known = timed.get(spoken.clip.id, ())
        figures.words_to_settle += len(known)
        figures.stable_s += _stable(said, known, spoken.start_s)


def _bounds(spoken: Sequence[Spoken]) -> list[tuple[float, float]]:
    """Cut the stream in the middle of each pause: what is heard between two cuts is one clip's."""
    cuts = [(a.end_s + b.start_s) / 2 for a, b in pairwise(spoken)]
    edges = [float("-inf"), *cuts, float("inf")]
    return list(pairwise(edges))[: len(spoken)]


def _stable(said: Sequence[HeardWord], known: TimedWords, start_s: float) -> Iterator[float]:
    """Give, for each known word that was heard, how long after its end it was settled."""
    heard = [(part, word.settled_s) for word in said for part in normalise(word.text).split()]
    matcher = SequenceMatcher(
        None, [word for word, _ in known], [word for word, _ in heard], autojunk=False
    )
    for ours, theirs, length in matcher.get_matching_blocks():
        for step in range(length):
            yield heard[theirs + step][1] - (start_s + known[ours + step][1])


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Give median, 95th and 99th percentile; None of nothing."""
    if not values:
        return None
    found = np.percentile(values, (50, 95, 99))
    return {f"p{p}": round(float(v), 4) for p, v in zip((50, 95, 99), found, strict=True)}
