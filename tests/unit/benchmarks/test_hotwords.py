"""What is counted of hotwords."""

import random
from pathlib import Path

import pytest

from benchmarks.corpus import Utterance
from benchmarks.hotwords import Tally, list_for

WORDS = ("Kovalenko", "Grafana", "Dnipro", "Envoy")


def utterance(reference: str) -> Utterance:
    return Utterance("set/one", Path("one.wav"), 2.0, "somebody", reference)


@pytest.mark.parametrize(
    ("reference", "text", "said", "found", "alarms"),
    [
        ("Ask Kovalenko.", "ask kovalenko", 1, 1, 0),
        ("Ask Kovalenko.", "ask cover Lenko", 1, 0, 0),
        ("Ask him.", "ask Dnipro", 0, 0, 1),
        ("Envoy to Envoy", "Envoy to Dnipro", 2, 1, 1),
        ("Grafana", "Grafana Grafana", 1, 1, 1),
    ],
)
def test_a_word_is_found_missed_or_heard_where_nobody_said_it(
    reference: str, text: str, said: int, found: int, alarms: int
) -> None:
    tally = Tally()
    tally.add(reference, text, WORDS)

    assert (tally.said, tally.found, tally.alarms) == (said, found, alarms)


@pytest.mark.parametrize(("length", "expected"), [(0, 0), (1, 1), (3, 3), (100, 4)])
def test_a_list_has_what_is_said_and_others_up_to_its_length(length: int, expected: int) -> None:
    found = list_for(utterance("the Dnipro is wide"), WORDS, length, random.Random(0))

    assert len(found) == len(set(found)) == expected
    assert set(found) <= set(WORDS)
    assert not length or "Dnipro" in found


def test_the_same_draw_gives_the_same_list() -> None:
    one, other = (list_for(utterance("no"), WORDS, 2, random.Random(3)) for _ in range(2))

    assert one == other
