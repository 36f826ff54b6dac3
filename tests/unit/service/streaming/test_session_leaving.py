"""A stream that should go on elsewhere ends at a pause, and says what it has accepted."""

import dataclasses
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.streaming.commands import Configure, Flush, Gap, Leave, Marker, Stop
from service.streaming.events import Done, Dropped, Event, Final, Lag, Leaving, Marked, Partial
from service.streaming.stream_time import in_stream_time
from tests.stream_kit import LOUD, Rig, config, packets, played, sound, words_of

FRAME_S = 0.032


def left(rig: Rig) -> Done:
    (done,) = rig.all(Done)
    assert rig.events[-1] is done
    return done


def test_the_utterance_that_runs_ends_with_its_final_and_then_the_stream() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.tell(Leave("drain"))
    assert not rig.all(Done)

    rig.play(sound((1.0, LOUD), (1.0, 0.0), (2.0, LOUD)))

    (final,) = rig.finals
    assert final.reason == "endpoint"
    assert left(rig).reason == "drain"
    assert left(rig).end_s == final.end_s
    assert final.end_s == pytest.approx(3.0, abs=2 * FRAME_S)
    assert left(rig).stats.audio_s == left(rig).end_s


@pytest.mark.parametrize("reason", ["drain", "move"])
def test_where_nobody_speaks_it_ends_at_once(reason: Literal["drain", "move"]) -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD), (3.0, 0.0)))
    rig.tell(Leave(reason))

    done = left(rig)
    assert done.reason == reason
    # The next word may have begun softly.
    assert done.end_s == pytest.approx(4.5 - 0.3, abs=2 * FRAME_S)
    assert rig.finals[0].end_s < done.end_s


def test_a_word_that_may_just_begin_is_left_to_the_next_one() -> None:
    rig = Rig()
    rig.play(sound((2.0, 0.0), (0.06, LOUD)))
    rig.tell(Leave("move"))

    assert left(rig).end_s == pytest.approx(2.0 - 0.3, abs=2 * FRAME_S)
    assert not rig.finals


def test_it_never_ends_before_what_was_told_as_final() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD), (0.6, 0.0)))
    rig.tell(Leave("drain"))

    assert left(rig).end_s == rig.finals[0].end_s


def test_all_that_came_before_is_heard_first() -> None:
    rig = Rig()
    for packet in packets(sound((0.5, 0.0), (1.0, LOUD), (1.0, 0.0), (1.0, LOUD))):
        rig.say(packet)
    rig.inbox.put(Leave("drain"))
    for packet in packets(sound((0.2, LOUD), (1.0, 0.0), (1.0, LOUD))):
        rig.say(packet)
    rig.run()

    assert [final.reason for final in rig.finals] == ["endpoint", "endpoint"]
    assert left(rig).end_s == rig.finals[1].end_s == pytest.approx(4.2, abs=2 * FRAME_S)


def test_a_whole_backlog_ends_at_its_first_pause() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (0.5, LOUD)))
    rig.inbox.put(Leave("drain"))
    scene = sound((0.5, LOUD), (1.0, 0.0), (1.0, LOUD), (1.0, 0.0), (1.0, LOUD))
    for packet in packets(scene, 100_000):  # in one round the gate hears several utterances
        rig.say(packet)
    rig.run()

    (final,) = rig.finals
    assert left(rig).end_s == final.end_s == pytest.approx(2.0, abs=2 * FRAME_S)


def test_at_the_deadline_it_ends_in_the_middle_of_a_word() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.tell(Leave("drain"))
    rig.play(sound((1.0, LOUD)))
    rig.tell(Stop("drain"))

    (final,) = rig.finals
    assert (final.reason, final.end_s) == ("drain", 2.5)
    assert left(rig).end_s == 2.5


def test_a_client_that_stops_meanwhile_has_it_all_accepted() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.tell(Leave("move"))
    rig.tell(Stop())

    assert (left(rig).reason, left(rig).end_s) == ("stop", 1.5)


def test_a_flush_is_a_pause() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.tell(Leave("move"), Flush(), Configure(endpointing_s=0.2), Marker("late"))

    assert [final.reason for final in rig.finals] == ["flush"]
    assert (left(rig).reason, left(rig).end_s) == ("move", 1.5)
    assert not rig.all(Marked)


def test_what_would_be_dropped_is_left_to_the_next_one() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.tell(Leave("drain"), Gap(32_000, rig.clock.now_s))

    assert [final.reason for final in rig.finals] == ["gap"]
    assert left(rig).end_s == 1.5
    assert not rig.all(Dropped)
    assert left(rig).stats.dropped_s == 0


def test_a_marker_before_the_end_is_reached_by_it() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.tell(Marker("m"), Leave("drain"))
    rig.play(sound((1.0, 0.0)))

    assert rig.all(Marked) == [Marked("m")]


def test_times_and_numbers_go_on_from_where_the_stream_was() -> None:
    rig = Rig(config(start_s=100.5, first_utterance=7))
    played(sound((0.5, 0.0), (1.0, LOUD), (1.0, 0.0)), rig=rig)
    here = played(sound((0.5, 0.0), (1.0, LOUD), (1.0, 0.0)))

    def elsewhere(event: Event) -> Event:
        event = in_stream_time(event, 100.5)
        return dataclasses.replace(event, utt=7) if isinstance(event, Final | Partial) else event

    assert rig.events == [elsewhere(event) for event in here.events]
    assert rig.finals[0].start_s > 100.5
    assert rig.finals[0].plans[0][0] == rig.finals[0].start_s
    assert left(rig).end_s == 103.0
    assert left(rig).stats.audio_s == 2.5
    assert rig.session.told_s == 103.0


def test_only_messages_with_times_are_moved_in_time() -> None:
    assert in_stream_time(Leaving("move", 1.0, 30.0), 2.0) == Leaving("move", 3.0, 30.0)
    assert in_stream_time(Lag(1.0, 0.1, 0.2, 0.5), 2.0) == Lag(3.0, 0.1, 0.2, 2.5)
    assert in_stream_time(Dropped(1.0, 2.0), 2.0) == Dropped(3.0, 4.0)
    assert in_stream_time(Marked("m"), 2.0) == Marked("m")


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.4, 0.7, 1.5]), st.sampled_from([0.0, LOUD])),
        min_size=2,
        max_size=7,
    ),
    st.integers(200, 20_000),
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=5),
)
def test_moved_or_lost_as_often_as_it_may_be_a_stream_tells_what_it_would_have_told_in_one_place(
    scene: list[tuple[float, float]], packet_bytes: int, cuts: list[tuple[int, bool]]
) -> None:
    pcm = sound(*scene)
    here = played(pcm, packet_bytes)
    finals: list[Final] = []
    start_s, utt = 0.0, 0

    told, number = None, -1
    for cut_after, crashes in [*cuts, (-1, False)]:
        rig = Rig(config(start_s=start_s, first_utterance=utt))
        owed = pcm[round(start_s * 16_000) * 2 :]
        for number, packet in enumerate(packets(owed, packet_bytes)):
            if number == cut_after and crashes:
                break
            if number == cut_after:
                rig.tell(Leave("move"))
            rig.say(packet)
            rig.run()
            if rig.all(Done):
                break
        if not rig.all(Done) and not (crashes and cut_after <= number):
            rig.tell(Stop())
        finals += rig.finals
        accepted_s = [lag.accepted_s for lag in rig.all(Lag)]
        assert accepted_s == sorted(accepted_s)
        accepted_s += [final.end_s for final in rig.finals] + [start_s]
        if rig.all(Done):
            told = left(rig)
            assert told.end_s >= max(accepted_s)
            if told.reason == "stop":
                break
            accepted_s.append(told.end_s)
        start_s, utt = max(accepted_s), utt + len(rig.finals)

    assert told is not None
    assert told.end_s == pytest.approx(len(pcm) / 32_000, abs=1e-9)
    assert [final.utt for final in finals] == list(range(len(finals)))
    # Speech is where it was, to a frame of the gate, whose frames begin where a stream does.
    times = [(final.start_s, final.end_s) for final in finals]
    wanted = [(final.start_s, final.end_s) for final in here.finals]
    assert np.allclose(times, wanted, atol=2 * FRAME_S)
    assert len(words_of(finals)) == pytest.approx(len(words_of(here.finals)), abs=len(finals))
