import pytest

from benchmarks.peers.score import score


def test_case_and_punctuation_are_no_errors() -> None:
    result = score([("HELLO THERE", "Hello, there.")])

    assert result is not None
    assert result.wer == 0
    assert result.words == 2


def test_errors_are_counted_over_all_reference_words() -> None:
    result = score([("one two three", "one too"), ("four", "four five")])

    assert result is not None
    assert (result.substitutions, result.deletions, result.insertions) == (1, 1, 1)
    assert result.wer == pytest.approx(3 / 4)
    assert result.low <= result.wer <= result.high


def test_utterances_without_a_reference_do_not_count() -> None:
    result = score([("", "invented"), ("one", "one")])

    assert result is not None
    assert result.words == 1


def test_a_set_without_transcripts_has_no_error_rate() -> None:
    assert score([("", "some words")]) is None
