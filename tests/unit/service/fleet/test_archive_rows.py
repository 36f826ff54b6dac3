from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.base import Cost, PlanInUse, Segment, Word
from service.errors import AudioEmpty
from service.fleet.archive_rows import ArchiveRow, Part, PartJoiner, join_parts
from service.scheduling.files import Share
from service.scheduling.transcripts import Timing, Transcript

PLAN = PlanInUse((2, 2, 2, 2), 2.0, 4, 0.5)


def segment(start_s: float, *texts: str, confidence: float = 0.5) -> Segment:
    words = tuple(
        Word(text, start_s + number, start_s + number + 1, confidence)
        for number, text in enumerate(texts)
    )
    return Segment(start_s, start_s + len(texts), " ".join(texts), words)


def transcript(*segments: Segment, flops: int = 100) -> Transcript:
    return Transcript("m", PLAN, "ladder", segments, 60.0, Cost(flops, 60, 400), Timing())


def part(index: int, of: int, *segments: Segment) -> Part:
    return Part.of_transcript("a.wav", Share(index, of), transcript(*segments))


def test_a_row_says_what_the_transcript_says() -> None:
    spoken = transcript(segment(0, "one", "two"), segment(9.12345, "three", confidence=0.8))

    row = join_parts([Part.of_transcript("a.wav", Share(), spoken)])

    assert row.text == spoken.text == "one two three"
    assert [(w.text, w.start_s) for w in row.words] == [("one", 0), ("two", 1), ("three", 9.123)]
    assert row.confidence == 0.6
    assert (row.plan, row.layers, row.layers_total, row.drop) == ("2,2,2,2", 2.0, 4, 0.5)
    assert (row.flops, row.encoder_flops, row.full_flops, row.spent_flops) == (100, 60, 400, 100)
    assert (row.model, row.policy, row.audio_s, row.error_code) == ("m", "ladder", 60.0, "")


def test_a_file_without_words_has_no_confidence() -> None:
    row = join_parts([Part.of_transcript("a.wav", Share(), transcript())])

    assert (row.text, row.words, row.confidence) == ("", (), None)


def test_parts_are_joined_in_the_order_of_the_audio() -> None:
    parts = [part(0, 2, segment(0, "one"), segment(20, "three")), part(1, 2, segment(10, "two"))]

    row = join_parts(parts)

    assert row.text == "one two three"
    assert [word.text for word in row.words] == ["one", "two", "three"]
    assert (row.flops, row.audio_s) == (200, 60.0)


@given(st.integers(1, 9), st.integers(1, 5))
def test_however_many_share_a_file_the_row_has_the_words_of_one(steps: int, of: int) -> None:
    segments = [segment(10 * number, f"word{number}") for number in range(steps)]
    whole = join_parts([part(0, 1, *segments)])

    shared = join_parts(
        [
            part(k, of, *[s for step, s in enumerate(segments) if Share(k, of).takes(step)])
            for k in range(of)
        ]
    )

    assert (shared.text, shared.words) == (whole.text, whole.words)


def test_one_failed_part_fails_the_file_and_its_cost_stays() -> None:
    failed = Part.of_error("a.wav", Share(1, 2), AudioEmpty("expected audio, got none"))

    row = join_parts([part(0, 2, segment(0, "one")), failed])

    assert row == ArchiveRow(
        path="a.wav",
        spent_flops=100,
        error_code="audio_empty",
        error_message="expected audio, got none",
    )


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_joiner_waits_for_the_last_part_in_any_order(order: tuple[int, ...]) -> None:
    joiner = PartJoiner()
    parts = [part(k, 3, segment(10 * k, f"word{k}")) for k in range(3)]

    rows = [joiner.add(parts[index]) for index in order]

    assert rows[:2] == [None, None]
    assert rows[2] is not None
    assert rows[2].text == "word0 word1 word2"


def test_a_part_that_comes_twice_counts_once() -> None:
    joiner = PartJoiner()

    assert joiner.add(part(0, 2, segment(0, "one"))) is None
    assert joiner.add(part(0, 2, segment(0, "one"))) is None
    row = joiner.add(part(1, 2, segment(10, "two")))

    assert row is not None
    assert row.text == "one two"


def test_a_deeper_pass_replaces_the_words_and_adds_its_cost() -> None:
    first = join_parts([part(0, 1, segment(0, "um"))])
    deeper = join_parts([part(0, 1, segment(0, "one"))])

    row = first.deepened(deeper)

    assert (row.text, row.flops, row.spent_flops) == ("one", 100, 200)


def test_a_deeper_pass_that_failed_leaves_the_first_one_s_words() -> None:
    first = join_parts([part(0, 1, segment(0, "um"))])
    failed = ArchiveRow(path="a.wav", spent_flops=30, error_code="worker_died")

    row = first.deepened(failed)

    assert (row.text, row.error_code, row.spent_flops) == ("um", "", 130)


def test_a_plan_that_input_picked_is_named_with_all_its_forms() -> None:
    other = PlanInUse((1, 0, 1, 0), 2.0, 4, 0.5)
    spoken = Transcript("m", PLAN, "input", (), 1.0, Cost(), Timing(), plans=(PLAN, other, PLAN))

    row = join_parts([Part.of_transcript("a.wav", Share(), spoken)])

    assert row.plan == "2,2,2,2;1,0,1,0"
