"""Whole simulated runs, and the same stream on the fake engine with real samples."""

import dataclasses
import math

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from benchmarks.simulator.clients import PACKET_S
from benchmarks.simulator.engine import SimulatedEngine
from benchmarks.simulator.scores import Sample, Scores, summary
from benchmarks.simulator.simulation import simulate
from benchmarks.simulator.speech import FRAME_S, Manner, drawn_speech
from benchmarks.simulator.traces import make_trace
from service.engine.base import DepthChoice, LiveInput
from service.metrics import create_metrics
from service.scheduling.live import Round
from service.scheduling.live_load import LiveLoad
from service.streaming.commands import Packet, Stop, StreamConfig
from service.streaming.events import Event, Final
from service.streaming.inbox import Inbox
from service.streaming.measures import StreamMeasures
from service.streaming.outbox import Outbox
from service.streaming.session import Backing, Session
from tests.service_kit import FakeClock
from tests.simulator_kit import card, fleet, times
from tests.stream_kit import LOUD, Rig, sound

SECONDS = 12.0


def run(chunk_s: float = 0.02, *, peak: int = 6, load_s: float = 9.0, **changes: object) -> Scores:
    trace = make_trace("constant", peak=peak, load_s=load_s, tail_s=2, seed=4)
    return simulate(trace, fleet(chunk_s, **changes))  # pyright: ignore[reportArgumentType]


def test_no_stream_and_no_packet_is_lost() -> None:
    scores = run()

    assert scores.num_begun == scores.num_ended == 6
    assert (scores.num_failed, scores.num_refused, scores.dropped_s) == (0, 0, 0.0)
    assert scores.finals == len(scores.final_s) > 6
    # Packets that come within 20 ms of each other are one; none here.
    assert len(scores.lag_s) == pytest.approx(scores.offered_s / PACKET_S, abs=8)


def test_the_engine_is_busy_for_as_long_as_its_work_takes() -> None:
    light, heavy = run(0.005), run(0.04)

    assert light.encoded_s == heavy.encoded_s  # the same audio, whatever it costs
    chunks = heavy.encoded_s[8.0] / 0.576
    busy_s = [sum(sample.busy for sample in one.samples) for one in (light, heavy)]
    # Cut chunks at the end of utterances cost their share; second passes are left out under load.
    assert busy_s[1] - busy_s[0] == pytest.approx(chunks * 0.035, rel=0.15)


def test_the_same_seed_gives_the_same_run_and_another_one_does_not() -> None:
    first, again, other = run(seed=1), run(seed=1), run(seed=2)

    assert first == again
    assert first.lag_s != other.lag_s


def test_lag_rises_with_load_and_falls_with_depth() -> None:
    few, many = run(0.05, peak=4), run(0.05, peak=12)
    shallow = run(0.05, peak=12, drop=0.75)

    assert mean(few.lag_s) < mean(many.lag_s)
    assert mean(shallow.lag_s) < mean(many.lag_s)
    assert set(shallow.encoded_s) == {2.0}


def test_more_than_there_is_room_for_is_refused() -> None:
    scores = run(peak=6, max_streams=4)

    assert scores.num_refused == 2
    assert scores.num_begun == scores.num_ended


def test_replicas_share_the_streams() -> None:
    alone, together = run(0.05, peak=12), run(0.05, peak=12, replicas=4)

    assert mean(together.lag_s) < mean(alone.lag_s)
    at_5_s = [sample.num_streams for sample in together.samples if sample.at_s == 5.0]
    assert at_5_s == [3, 3, 3, 3]


def test_a_summary_pays_words_by_the_audio_at_each_depth() -> None:
    scores = Scores(
        lag_s=[0.5, 1.5],
        encoded_s={8.0: 30.0, 4.0: 10.0},
        dropped_s=0.2,
        changes=[(40.0, 0), (70.0, 0), (90.0, 1)],
        samples=[Sample(110.0, 0, 2, 4.0, 0.9), Sample(111.0, 0, 2, 8.0, 0.5)],
    )

    found = summary(scores, card(), replicas=2, run_s=120.0, peak_s=(0.0, 100.0))

    assert found["slo_lag"] == 0.25
    assert found["wer"] == pytest.approx(0.105)
    assert found["wer_ratio"] == pytest.approx(1.05)
    assert found["depth_debt"] == pytest.approx(0.125)
    assert found["most_changes_settled"] == 2
    assert found["recovery_s"] == 10.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_simulated_stream_is_cut_where_real_samples_on_the_fake_engine_are(seed: int) -> None:
    """The fake engine hears a tone where the simulated gate hears what was drawn."""
    frames = drawn_speech(SECONDS, seed, Manner())
    pcm = sound(*[(FRAME_S, LOUD * float(loud)) for loud in frames])
    real = Rig(StreamConfig(choice=DepthChoice(0.0)))
    real.play(pcm)
    real.tell(Stop())

    simulated = finals_of_simulated(frames_seed=seed, num_bytes=len(pcm))

    assert [(one.start_s, one.end_s, one.reason) for one in simulated] == [
        (one.start_s, one.end_s, one.reason) for one in real.finals
    ]
    assert real.finals


def finals_of_simulated(*, frames_seed: int, num_bytes: int) -> list[Final]:
    clock, events, load = FakeClock(), list[Event](), LiveLoad()

    def spend(seconds: float) -> None:
        clock.now_s += seconds * 0  # rounds behind every packet, as the other side has them

    engine = SimulatedEngine(card(), times(), spend, lambda: 1, 0)
    info = engine.load()
    engine.next_speech = drawn_speech(SECONDS, frames_seed, Manner())
    inbox, outbox = Inbox(10**9), Outbox()
    measures = StreamMeasures(create_metrics(CollectorRegistry()), info)
    backing = Backing(engine, info, lambda: 0.0, measures)
    session = Session(StreamConfig(choice=DepthChoice(0.0)), inbox, outbox, backing)

    def rounds() -> None:
        while session.has_news:
            Round([session], [session]).run(engine, clock, load)
            events.extend(session._events)
            session._events.clear()

    for at in range(0, num_bytes, 3_200):
        clock.now_s += 0.1
        inbox.put(Packet(bytes(min(3_200, num_bytes - at)), clock.now_s))
        rounds()
    inbox.put(Stop())
    rounds()
    return [event for event in events if isinstance(event, Final)]


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def test_the_services_controller_gives_up_depth_under_load_and_takes_it_back() -> None:
    trace = make_trace("step", peak=16, load_s=32, tail_s=24, seed=4)

    scores = simulate(trace, fleet(0.1, policy="brownout"))

    by_second = {sample.at_s: sample.layers for sample in scores.samples}
    assert min(by_second.values()) == 4.0  # the card's next level costs three times the errors
    assert by_second[max(by_second)] == 8.0
    assert len(scores.changes) == 2
    assert set(scores.encoded_s) == {8.0, 4.0}


def test_streams_that_the_least_depth_could_not_carry_are_refused_early() -> None:
    trace = make_trace("constant", peak=40, load_s=9, tail_s=2, seed=4)

    scores = simulate(trace, fleet(0.1, policy="brownout", early_refusal=True))

    assert 0 < scores.num_refused < 40
    assert scores.num_begun == scores.num_ended == 40 - scores.num_refused


def test_a_final_of_many_calls_takes_several_steps_and_a_partial_one() -> None:
    spent_s = list[float]()
    slow = dataclasses.replace(times(), calls={0: (9,), 1: (6,)}, update_s=0.0, row_s=0.0)
    engine = SimulatedEngine(card(), slow, spent_s.append, lambda: 0, 0)
    plan = engine.load().offered[0]
    ending, speaking = engine.open_utterance(), engine.open_utterance()
    speech, nothing = np.zeros(10_200, np.float32), np.zeros(0, np.float32)

    first = engine.step([LiveInput(ending, nothing, plan, ends=True)])
    second = engine.step(
        [LiveInput(ending, nothing, plan, ends=True), LiveInput(speaking, speech, plan)]
    )

    assert [one.done for one in (*first, *second)] == [False, True, True]
    call_s, chunk_s = slow.call_s, slow.chunk_s[8.0].at(1)
    assert spent_s == pytest.approx([4 * call_s, 6 * call_s + chunk_s])
