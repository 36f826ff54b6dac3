"""One stream on the fake engine, round by round on a clock that stands still between them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from service.engine.base import AUTO, DepthChoice, ListenInput, Samples
from service.engine.fake import FakeEngine
from service.errors import DepthRefused, EngineFailed
from service.scheduling.live_load import CALM_ROUND_S, FULL_ROUND_S
from service.streaming.commands import Configure, Flush, Gap, Marker, Stop
from service.streaming.events import (
    Depth,
    Done,
    Dropped,
    Final,
    Lag,
    Marked,
    Partial,
    Stats,
)
from tests.stream_kit import LOUD, Rig, config, one_sentence, packets, played, sound, words_of


def test_a_sentence_becomes_partials_and_one_final() -> None:
    rig = played(one_sentence())

    assert len(rig.finals) == 1
    assert rig.finals[0].reason == "endpoint"
    assert words_of(rig.finals)[:4] == ["alpha", "bravo", "charlie", "delta"]
    assert len(rig.partials) >= 4
    assert isinstance(rig.events[-1], Done)


def test_the_first_words_come_within_a_chunk_and_a_round() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (0.7, LOUD)))

    assert rig.partials
    assert rig.sample("asr_stream_first_partial_seconds_count") == 1
    assert rig.mean("asr_stream_first_partial_seconds") < 0.9


def test_a_final_comes_as_soon_as_the_silence_is_long_enough() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (2.0, LOUD), (0.7, 0.0)))

    assert len(rig.finals) == 1
    assert rig.mean("asr_stream_final_seconds") < 0.1


@pytest.mark.parametrize("endpointing_s", [0.3, 1.0, 2.0])
def test_the_silence_that_ends_an_utterance_is_the_one_asked_for(endpointing_s: float) -> None:
    rig = played(
        sound((0.5, 0.0), (1.0, LOUD), (endpointing_s - 0.15, 0.0), (1.0, LOUD), (4.0, 0.0)),
        rig=Rig(config(endpointing_s=endpointing_s)),
    )

    assert len(rig.finals) == 1
    assert rig.finals[0].end_s == pytest.approx(2.35 + 2 * endpointing_s, abs=0.08)


def test_silence_between_utterances_is_not_encoded() -> None:
    rig = played(sound((10.0, 0.0), (1.0, LOUD), (10.0, 0.0)))

    assert rig.all(Done)[0].stats.encoded_s < 2.2
    assert rig.all(Done)[0].stats.audio_s == 21.0


def test_a_word_begins_where_it_was_said() -> None:
    rig = played(one_sentence())

    assert rig.finals[0].start_s == pytest.approx(0.2, abs=0.04)
    assert rig.finals[0].words[0].start_s == rig.finals[0].start_s


def test_the_stable_prefix_never_changes() -> None:
    rig = played(one_sentence(6.0))

    stable = [partial.text[: partial.stable_chars] for partial in rig.partials]
    for earlier, later in pairwise([*stable, rig.finals[0].text]):
        assert later.startswith(earlier)
    assert any(partial.stable_chars < len(partial.text) for partial in rig.partials)


def test_end_moves_at_least_twice_a_second_also_in_silence() -> None:
    rig = played(sound((3.0, 0.0), (2.0, LOUD), (3.0, 0.0)))

    ends = [one.end_s for one in rig.events if isinstance(one, Partial | Final | Lag)]
    assert ends == sorted(ends)
    assert max(later - earlier for earlier, later in pairwise([0.0, *ends])) <= 0.55
    assert ends[-1] >= 7.5


def test_the_caption_lag_of_every_packet_is_counted_once() -> None:
    rig = played(sound((1.0, 0.0), (2.0, LOUD), (1.0, 0.0)))

    assert rig.sample("asr_stream_lag_seconds_count") == pytest.approx(40, abs=1)
    assert rig.mean("asr_stream_lag_seconds") < 0.5


def test_flush_ends_the_utterance_and_the_stream_goes_on() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.tell(Flush())
    rig.play(sound((1.0, LOUD), (1.0, 0.0)))
    rig.tell(Stop())

    assert [final.reason for final in rig.finals] == ["flush", "endpoint"]
    assert rig.finals[0].end_s == 1.5
    assert rig.finals[1].start_s == 1.5


def test_flush_in_silence_does_nothing() -> None:
    rig = Rig()
    rig.play(sound((2.0, 0.0)))
    rig.tell(Flush(), Stop())

    assert not rig.finals


@pytest.mark.parametrize("reason", ["stop", "drain", "idle"])
def test_what_ends_the_stream_ends_its_utterance(reason: str) -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.3, LOUD)))
    rig.tell(Stop(reason))  # type: ignore[arg-type]

    assert [final.reason for final in rig.finals] == [reason]
    assert rig.finals[0].end_s == 1.8
    assert rig.all(Done)[0].reason == reason
    assert not rig.session.has_news


def test_an_empty_stream_is_done_at_once() -> None:
    rig = Rig()
    rig.tell(Stop())

    assert [type(event) for event in rig.events] == [Done]


def test_a_marker_comes_back_once_all_before_it_is_taken_into_account() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.tell(Marker("here"))
    assert not rig.all(Marked)

    rig.play(sound((1.0, LOUD)))

    assert [one.id for one in rig.all(Marked)] == ["here"]


def test_markers_in_silence_come_back_at_once_and_in_order() -> None:
    rig = Rig()
    rig.tell(Marker("a"), Marker("b"))

    assert [one.id for one in rig.all(Marked)] == ["a", "b"]


def test_an_utterance_that_gets_too_long_ends_in_a_pause_and_nothing_is_encoded_twice() -> None:
    rig = played(sound((0.5, 0.0), (26.6, LOUD), (0.2, 0.0), (14.0, LOUD), (1.0, 0.0)))

    first, second = rig.finals
    assert first.reason == "limit"
    assert 27.1 <= first.end_s <= second.start_s <= 27.31
    assert len(first.words) + len(second.words) == pytest.approx(82, abs=2)
    assert rig.all(Done)[0].stats.encoded_s <= 42.3


def test_an_utterance_without_a_pause_is_cut_and_nothing_is_said_twice() -> None:
    rig = played(sound((0.5, 0.0), (40.0, LOUD), (1.0, 0.0)))

    first, second = rig.finals
    assert first.reason == "limit"
    assert first.end_s - first.start_s <= 28.0
    assert first.words[-1].end_s <= first.end_s == second.start_s
    assert len(first.words) + len(second.words) == pytest.approx(81, abs=2)
    assert rig.all(Done)[0].stats.encoded_s <= 41.5 + 3.0


def test_no_word_told_as_stable_is_lost_at_a_cut() -> None:
    rig = played(sound((60.0, LOUD), (1.0, 0.0)))

    assert len(rig.finals) == 3
    for final in rig.finals:
        partials = [one for one in rig.partials if one.utt == final.utt]
        assert final.text.startswith(partials[-1].text[: partials[-1].stable_chars])
    spans = [(final.start_s, final.end_s) for final in rig.finals]
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]


def test_the_caches_are_told_and_let_go_of() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (2.0, LOUD)))
    held_bytes = rig.session.state_bytes
    rig.play(sound((1.0, 0.0)))

    assert held_bytes > 0
    assert rig.session.state_bytes == 0
    assert max(one.state_bytes for one in rig.all(Stats)) > 0


def test_a_change_of_strides_acts_at_the_next_chunk() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.6, LOUD)))
    rig.tell(Configure(DepthChoice(0.5)))
    rig.play(sound((1.6, LOUD), (1.0, 0.0)))

    (told,) = rig.all(Depth)
    assert (told.plan.effective_layers, told.reason, told.applies) == (4, "configure", "next_chunk")
    (final,) = rig.finals
    assert [plan.effective_layers for _, plan in final.plans] == [8, 4]
    assert 1.5 < final.plans[1][0] < 2.3
    assert 4 < final.layers < 8
    assert final.drop == pytest.approx(1 - final.layers / 8)


def test_skipped_layers_wait_for_the_next_utterance_and_the_message_says_so() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.tell(Configure(DepthChoice(0.5, policy="skip")))
    rig.play(sound((1.0, LOUD), (1.0, 0.0), (1.0, LOUD), (1.0, 0.0)))

    assert [one.applies for one in rig.all(Depth)] == ["next_utterance"]
    strides = [[plan.strides for _, plan in final.plans] for final in rig.finals]
    assert strides == [[(1,) * 8], [(1,) * 4 + (0,) * 4]]


def test_auto_follows_what_is_decided_and_says_so_once() -> None:
    drop = 0.0

    def decide() -> float:
        return drop

    rig = Rig(config(choice=DepthChoice(AUTO)), decide=decide)
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    drop = 0.5
    rig.play(sound((1.0, LOUD), (1.0, 0.0)))

    assert [(one.reason, one.plan.effective_layers) for one in rig.all(Depth)] == [("auto", 4)]
    assert rig.session.dial.wanted.drop == 0.5


def test_auto_goes_no_lower_than_the_caller_admits() -> None:
    drop = 0.0
    rig = Rig(config(choice=DepthChoice(AUTO, max_drop=0.3)), decide=lambda: drop)
    drop = 0.75
    rig.play(one_sentence())

    assert not rig.all(Depth)
    assert [plan.effective_layers for _, plan in rig.finals[0].plans] == [8]


def test_a_depth_that_is_not_on_offer_is_refused_before_anything_else() -> None:
    with pytest.raises(DepthRefused):
        Rig(config(choice=DepthChoice(0.5, max_drop=0.25)))


def test_the_work_is_booked_to_the_depth_that_spent_it() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.6, LOUD)))
    rig.tell(Configure(DepthChoice(0.75)))
    rig.play(sound((1.6, LOUD), (1.0, 0.0)))
    rig.tell(Stop())

    full, quarter = (rig.sample("asr_estimated_flops_total", depth=depth) for depth in ("8", "2"))
    assert full
    assert quarter
    assert full > quarter
    assert full + quarter == rig.finals[0].flops == rig.all(Done)[0].stats.flops


def test_dropped_audio_is_announced_and_ends_the_utterance() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.inbox.put(Gap(32_000, 0.0))
    rig.play(sound((1.0, LOUD), (1.0, 0.0)))
    rig.tell(Stop())

    (dropped,) = rig.all(Dropped)
    assert (dropped.start_s, dropped.end_s) == (1.5, 2.5)
    assert [final.reason for final in rig.finals] == ["gap", "endpoint"]
    assert rig.finals[1].start_s >= 2.15
    assert rig.all(Done)[0].stats.dropped_s == 1.0
    assert rig.sample("asr_stream_dropped_audio_seconds_total", reason="overload") == 1.0


class Fan(FakeEngine):
    """Stands beside the microphone: to the gate all is speech."""

    def listen(self, inputs: Sequence[ListenInput]) -> Sequence[Samples]:
        return [np.full_like(one, 0.9) for one in super().listen(inputs)]


def test_a_noise_that_goes_on_after_the_last_word_ends_the_utterance() -> None:
    rig = Rig(engine=Fan())
    rig.play(sound((2.0, LOUD), (2.5, 0.0)))

    assert [final.reason for final in rig.finals] == ["endpoint"]
    assert 3.4 < rig.finals[0].end_s < 4.2


def test_a_noise_without_a_word_is_one_utterance_until_it_is_too_long() -> None:
    rig = Rig(engine=Fan())
    rig.play(sound((20.0, 0.0)))

    assert not rig.finals
    assert not rig.partials


def test_a_second_pass_hears_the_whole_utterance_again() -> None:
    once, twice = played(one_sentence()), played(one_sentence(), rig=Rig(two_pass=True))

    assert {word.confidence for word in twice.finals[0].words} == {0.99}
    assert twice.finals[0].flops == pytest.approx(2 * once.finals[0].flops)


@pytest.mark.parametrize("again", [False, True])
def test_a_busy_service_hears_again_what_it_is_unsure_of(*, again: bool) -> None:
    rig = Rig(two_pass=True)
    first = played(one_sentence()).finals[0].words
    doubt = 1 - sum(word.confidence for word in first) / len(first)
    for _ in range(50):
        rig.load.took(CALM_ROUND_S + (FULL_ROUND_S - CALM_ROUND_S) * doubt * (0.5 if again else 10))
    played(one_sentence(), rig=rig)

    assert (0.99 in {word.confidence for word in rig.finals[0].words}) is again


def test_the_second_pass_is_the_first_thing_given_up() -> None:
    rig = Rig(two_pass=True)
    for _ in range(20):
        rig.load.took(2 * CALM_ROUND_S)
    played(one_sentence(), rig=rig)

    assert 0.99 not in {word.confidence for word in rig.finals[0].words}


def test_partials_come_less_often_under_load_and_the_audio_is_still_encoded() -> None:
    calm, busy = Rig(), Rig()
    busy.load.strained = True

    played(one_sentence(6.0), rig=calm)
    played(one_sentence(6.0), rig=busy)

    assert len(busy.partials) < len(calm.partials)
    assert words_of(busy.finals) == words_of(calm.finals)
    assert max(b.end_s - a.end_s for a, b in pairwise(busy.partials)) <= 1.3


def test_words_that_were_put_off_come_without_new_audio() -> None:
    rig = Rig()
    rig.load.strained = True
    rig.play(sound((0.5, 0.0), (1.4, LOUD)))
    before = len(rig.partials)
    assert rig.session.waits

    rig.clock.now_s += 1.0
    rig.round()

    assert len(rig.partials) == before + 1
    assert not rig.session.waits


def test_a_backlog_is_taken_in_bounded_steps() -> None:
    rig = Rig()
    for packet in packets(sound((20.0, LOUD))):
        rig.say(packet)

    rig.round()

    assert rig.session._track.num_held <= 8.2 * 16_000
    assert len(rig.inbox) > 0
    rig.run()
    rig.tell(Stop())
    assert len(words_of(rig.finals)) == 40


def test_a_stream_that_failed_does_nothing_more() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))
    rig.session.failed(EngineFailed("expected"))
    rig.say(one_sentence())

    assert not rig.session.has_news
    assert rig.session.state_bytes == 0
