"""What a stream leaves behind: an utterance is a request, its work is booked where it was spent."""

import pytest

from service.engine.base import DepthChoice
from service.errors import EngineFailed
from service.metrics import CAPTION_BUCKETS_S
from service.streaming.commands import Configure, Stop
from service.streaming.measures import LIMIT_S
from tests.stream_kit import LOUD, Rig, one_sentence, packets, played, sound

TWO_SENTENCES = one_sentence() + one_sentence()


def test_every_utterance_is_a_request() -> None:
    rig = played(TWO_SENTENCES)

    labels = {"endpoint": "stream", "depth": "8"}
    assert len(rig.finals) == 2
    assert rig.sample("asr_requests_total", endpoint="stream", outcome="ok") == 2
    for name in ("request_duration_seconds", "request_estimated_flops", "realtime_factor"):
        assert rig.sample(f"asr_{name}_count", **labels) == 2, name


def test_the_latency_of_an_utterance_runs_from_the_audio_that_ends_it() -> None:
    rig = played(one_sentence())

    labels = {"endpoint": "stream", "depth": "8"}
    took_s = rig.sample("asr_request_duration_seconds_sum", **labels)
    assert took_s == rig.sample("asr_stream_final_seconds_sum")
    assert took_s is not None
    assert took_s < 0.2


def test_the_flops_of_an_utterance_are_those_its_final_tells() -> None:
    rig = played(TWO_SENTENCES)

    labels = {"endpoint": "stream", "depth": "8"}
    told = sum(final.flops for final in rig.finals)
    assert rig.sample("asr_request_estimated_flops_sum", **labels) == told
    assert rig.sample("asr_estimated_flops_total", depth="8") == told


def test_an_utterance_of_two_depths_counts_at_its_mean_and_its_flops_where_they_were_spent() -> (
    None
):
    rig = Rig()
    rig.play(sound((0.5, 0.0), (3.2, LOUD)))
    rig.tell(Configure(DepthChoice(0.75)))
    rig.play(sound((1.6, LOUD), (1.0, 0.0)))
    rig.tell(Stop())

    (final,) = rig.finals
    assert 4 <= final.layers < 8
    labels = {"endpoint": "stream", "depth": "4"}
    assert rig.sample("asr_request_estimated_flops_sum", **labels) == final.flops
    spent = {depth: rig.sample("asr_estimated_flops_total", depth=depth) for depth in "842"}
    assert spent["4"] is None
    assert (spent["8"] or 0) + (spent["2"] or 0) == final.flops
    full = rig.sample("asr_estimated_flops_full_total")
    assert full
    assert full > final.flops


def test_the_audio_of_an_utterance_is_booked_to_the_depth_it_was_encoded_at() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.6, LOUD)))
    rig.tell(Configure(DepthChoice(0.75)))
    rig.play(sound((1.6, LOUD), (1.0, 0.0)))
    rig.tell(Stop())

    by_depth = [
        rig.sample("asr_audio_seconds_total", endpoint="stream", depth=depth) or 0.0
        for depth in ("8", "2")
    ]
    assert min(by_depth) > 1
    (final,) = rig.finals
    assert sum(by_depth) == pytest.approx(final.end_s - final.start_s, abs=1.0)


def test_a_stream_in_time_breaks_no_promise() -> None:
    rig = played(one_sentence())

    assert {promise: broken(rig, promise) for promise in LIMIT_S} == dict.fromkeys(LIMIT_S, 0)


def broken(rig: Rig, promise: str) -> float | None:
    return rig.sample("asr_slo_violations_total", slo=promise)


def test_what_is_too_late_is_counted_by_promise() -> None:
    rig = Rig()
    rig.clock.now_s = 1.0
    for packet in packets(one_sentence()):
        rig.say(packet)
    rig.clock.now_s += 1.5  # so long ago all of it arrived
    rig.run()
    rig.tell(Stop())

    num_packets = rig.sample("asr_stream_lag_seconds_count") or 0
    in_time = rig.sample("asr_stream_lag_seconds_bucket", le="1.0") or 0
    assert broken(rig, "lag") == num_packets - in_time
    assert num_packets - in_time >= 35
    assert broken(rig, "final") == 1


def test_first_words_that_are_late_break_a_promise() -> None:
    rig = Rig()
    for packet in packets(sound((0.5, 0.0), (2.0, LOUD))):
        rig.say(packet)
    rig.clock.now_s += 0.95
    rig.run()

    assert broken(rig, "first_partial") == 1


@pytest.mark.parametrize("promise", LIMIT_S)
def test_the_share_that_keeps_a_promise_can_be_read_off_its_histogram(promise: str) -> None:
    assert LIMIT_S[promise] in CAPTION_BUCKETS_S


def test_an_utterance_that_the_engine_leaves_open_counts_as_failed() -> None:
    rig = Rig()
    rig.play(sound((0.5, 0.0), (1.0, LOUD)))

    rig.session.failed(EngineFailed("expected"))

    assert rig.sample("asr_requests_total", endpoint="stream", outcome="failed") == 1
    assert rig.sample("asr_requests_total", endpoint="stream", outcome="ok") == 0
