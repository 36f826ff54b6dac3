import numpy as np
import pytest

from benchmarks.capacity import PACKET_BYTES, looped, pcm
from benchmarks.capacity_log import PACKET_S, StreamLog, summarise

START_S = 100.0


def log(num_packets: int = 10) -> StreamLog:
    return StreamLog(START_S, num_packets)


def caption(kind: str, end: float, text: str = "so", utt: int = 0) -> dict[str, object]:
    return {"type": kind, "start": 0.2, "end": end, "text": text, "utt": utt, "layers": 4.0}


def test_a_packet_lags_from_when_it_was_due_to_the_first_message_that_covers_it() -> None:
    told = log()

    told.take({"type": "lag", "end": 0.35}, START_S + 0.5)
    told.take(caption("partial", 0.4), START_S + 0.6)
    told.take({"type": "lag", "end": 0.4}, START_S + 0.9)

    assert told.lag_s == pytest.approx([0.4, 0.3, 0.2, 0.2])
    assert told.unanswered == 6


def test_an_end_that_was_rounded_still_covers_its_packet() -> None:
    told = log(3)

    told.take({"type": "lag", "end": 0.2999}, START_S + 1.0)

    assert told.unanswered == 0


def test_the_first_words_of_each_utterance_count_and_empty_ones_do_not() -> None:
    told = log(50)

    told.take(caption("partial", 0.6, text=""), START_S + 0.7)
    told.take(caption("partial", 1.2), START_S + 1.4)
    told.take(caption("partial", 1.8), START_S + 2.0)
    told.take(caption("final", 2.0), START_S + 2.5)
    told.take(caption("partial", 3.0, utt=1), START_S + 3.2)

    assert told.first_partial_s == pytest.approx([1.2, 3.0])
    assert told.final_s == pytest.approx([0.5])
    assert told.layers == [4.0]


def test_what_is_said_before_streams_have_settled_does_not_count() -> None:
    told = StreamLog(START_S, 10, settled_s=0.5)

    told.take(caption("partial", 0.4), START_S + 3.0)
    told.take(caption("final", 0.4), START_S + 3.5)
    told.take({"type": "lag", "end": 0.7}, START_S + 3.5)

    assert told.lag_s == pytest.approx([2.9, 2.8])
    assert (told.first_partial_s, told.final_s) == ([], [])


def test_what_goes_wrong_is_told() -> None:
    told = log(2)

    told.take({"type": "warning", "start": 1.0, "end": 2.5, "message": "m"}, START_S)
    told.take({"type": "error", "code": "overloaded"}, START_S)
    told.take({"type": "stats"}, START_S)
    told.fail("1013")

    found = summarise([told, log(1)], audio_s=0.3)
    assert (found["dropped_s"], found["errors"]) == (1.5, ["overloaded", "1013"])
    assert (found["unanswered_packets"], found["lag_s"], found["mean_layers"]) == (3, None, None)


def test_all_streams_packets_are_one_distribution() -> None:
    logs = [log(1) for _ in range(100)]
    for place, told in enumerate(logs):
        told.take({"type": "lag", "end": PACKET_S}, told.due_s(0) + place / 100)

    found = summarise(logs, audio_s=10.0)

    assert found["lag_s"] == pytest.approx({"p50": 0.495, "p95": 0.9405, "p99": 0.9801})


def test_clips_are_looped_from_a_place_with_pauses() -> None:
    one, other = np.full(1_600, 0.5, np.float32), np.full(800, -0.5, np.float32)

    sound = looped([one, other], 1, 0.1, 0.5)

    assert len(sound) == 8_000
    assert (sound[:800] == -0.5).all()
    assert (sound[800:2_400] == 0).all()
    assert (sound[2_400:4_000] == 0.5).all()
    assert (sound[5_600:6_400] == -0.5).all()


def test_samples_become_little_endian_words_within_their_range() -> None:
    found = np.frombuffer(pcm(np.array([0.0, 1.0, -1.5], np.float32)), "<i2")

    assert found.tolist() == [0, 32_767, -32_767]
    assert PACKET_BYTES == 3_200
