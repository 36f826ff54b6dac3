import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity import PACKET_BYTES
from benchmarks.errors import CorpusInvalid
from benchmarks.load import (
    AUDIO,
    SHAPES,
    Event,
    StreamEvents,
    as_wav,
    packets,
    read_clips,
    users_at,
)

START_S = 50.0
shapes = st.sampled_from(sorted(SHAPES))


@given(shape=shapes, share=st.floats(0, 1, exclude_max=True), most=st.integers(1, 500))
def test_a_shape_keeps_between_one_user_and_the_peak(shape: str, share: float, most: int) -> None:
    users = users_at(shape, share * 60, 60, most)

    assert users is not None
    assert 1 <= users <= most


@given(shape=shapes, most=st.integers(1, 500))
def test_every_shape_reaches_its_peak_and_ends(shape: str, most: int) -> None:
    seen = [users_at(shape, at_s, 60, most) for at_s in range(60)]

    assert max(users or 0 for users in seen) == most
    assert users_at(shape, 60, 60, most) is None


@given(
    shape=st.sampled_from(["ramp", "step"]),
    at_s=st.lists(st.floats(0, 59), min_size=2),
)
def test_a_ramp_and_a_step_only_rise(shape: str, at_s: list[float]) -> None:
    users = [users_at(shape, moment, 60, 40) or 0 for moment in sorted(at_s)]

    assert users == sorted(users)


def test_the_shapes_have_the_users_that_their_names_say() -> None:
    def over(shape: str) -> list[int | None]:
        return [users_at(shape, at_s, 60, 12) for at_s in (0, 15, 25, 31, 45, 59)]

    assert over("steady") == [12, 12, 12, 12, 12, 12]
    assert over("ramp") == [1, 4, 8, 9, 12, 12]
    assert over("step") == [3, 6, 6, 9, 12, 12]
    assert over("burst") == [3, 3, 12, 3, 3, 3]


def test_the_audio_of_the_repository_is_the_default() -> None:
    clips = read_clips(AUDIO)

    assert len(clips) >= 4
    assert all(samples.dtype == np.float32 and len(samples) > 16_000 for samples in clips)


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no sound")

    with pytest.raises(CorpusInvalid, match=r"expected audio files .* got none"):
        read_clips(tmp_path)


def test_a_file_is_sent_as_wav() -> None:
    samples = np.array([0.0, 0.5, -1.0], np.float32)

    with wave.open(io.BytesIO(as_wav(samples))) as file:
        form = file.getframerate(), file.getnchannels(), file.getsampwidth()
        words = np.frombuffer(file.readframes(10), "<i2")

    assert form == (16_000, 1, 2)
    assert words.tolist() == [0, 16_384, -32_767]


def test_a_stream_is_cut_into_whole_packets_and_places_differ() -> None:
    clips = [np.full(8_000, 0.25, np.float32), np.full(8_000, -0.25, np.float32)]

    first, second = (packets(clips, place, pause_s=0.5, seconds=2.0) for place in (0, 1))

    assert [len(packet) for packet in first] == [PACKET_BYTES] * 20
    assert first[0] != second[0]
    assert b"".join(first) == b"".join(packets(clips, 2, pause_s=0.5, seconds=2.0))


def caption(kind: str, **values: object) -> dict[str, Any]:
    return {"type": kind, "utt": 0, "start": 0.1, "text": "so", "layers": 8.0, **values}


def test_messages_become_events_once_each() -> None:
    told = StreamEvents(START_S, 10)

    first = told.take(caption("partial", end=0.2), START_S + 0.6)
    again = told.take(caption("partial", end=0.2), START_S + 0.7)
    last = told.take(caption("final", end=0.3), START_S + 0.9)

    assert [event.name for event in first] == ["ws lag", "ws lag", "ws first partial"]
    assert [event.took_s for event in first] == pytest.approx([0.5, 0.4, 0.5])
    assert again == []
    assert [event.name for event in last] == ["ws lag", "ws final"]
    assert last[1].took_s == pytest.approx(0.6)


def test_a_final_ahead_of_the_clock_took_no_time() -> None:
    told = StreamEvents(START_S, 1)

    assert told.take(caption("final", end=5.0), START_S + 1.0)[-1] == Event("ws final", 0.0)


@pytest.mark.parametrize(
    ("messages", "outcome"),
    [
        ([], "ok"),
        ([{"type": "error", "code": "overloaded"}], "refused"),
        ([{"type": "error", "code": "engine_failed"}], "engine_failed"),
        ([{"type": "warning", "start": 1.0, "end": 2.0}], "dropped audio"),
    ],
)
def test_a_stream_says_how_it_ended(messages: list[dict[str, Any]], outcome: str) -> None:
    told = StreamEvents(START_S, 1)

    for message in messages:
        told.take(message, START_S)

    assert told.outcome == outcome
