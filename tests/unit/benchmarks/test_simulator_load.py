import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulator.fleet import Autoscaler, ScalingRule
from benchmarks.simulator.scores import Sample
from benchmarks.simulator.speech import FRAME_S, Manner, ScriptedListener, drawn_speech
from benchmarks.simulator.traces import TRACES, Trace, TraceName, make_trace
from service.engine.base import GATE_FRAME_SAMPLES


def there(trace: Trace, at_s: float) -> int:
    return sum(one.at_s <= at_s < one.at_s + one.duration_s for one in trace.arrivals)


@settings(max_examples=25)
@given(st.sampled_from(TRACES), st.integers(2, 200), st.integers(0, 99))
def test_arrivals_are_in_order_and_inside_the_trace(name: TraceName, peak: int, seed: int) -> None:
    trace = make_trace(name, peak=peak, load_s=240, tail_s=60, seed=seed)

    starts = [one.at_s for one in trace.arrivals]
    assert starts == sorted(starts)
    assert all(one.at_s + one.duration_s <= trace.end_s + 2 for one in trace.arrivals)
    assert len({one.seed for one in trace.arrivals}) == len(trace.arrivals)
    assert trace == make_trace(name, peak=peak, load_s=240, tail_s=60, seed=seed)


@pytest.mark.parametrize(("name", "at_s"), [("constant", 100), ("step", 120), ("burst", 40)])
def test_a_shaped_load_has_its_peak_and_a_tenth_of_it_behind(name: TraceName, at_s: float) -> None:
    trace = make_trace(name, peak=50, load_s=240, tail_s=60, seed=1)

    assert there(trace, at_s) == 50
    assert there(trace, 280) == 5
    assert trace.peak_s[0] <= at_s <= trace.peak_s[1]


def test_a_poisson_load_is_as_large_as_it_was_asked_for_on_average() -> None:
    trace = make_trace("poisson", peak=200, load_s=600, tail_s=0, seed=3)

    mean = np.mean([there(trace, at_s) for at_s in range(20, 500, 10)])
    assert 170 < mean < 230


def test_a_day_is_quiet_at_its_ends_and_busy_in_its_middle() -> None:
    trace = make_trace("diurnal", peak=200, load_s=1200, tail_s=0, seed=3)

    assert there(trace, 20) < 60
    assert there(trace, 640) > 140


@settings(max_examples=25)
@given(st.floats(2, 60), st.integers(0, 1000))
def test_speech_covers_its_stream_and_is_the_same_for_a_seed(duration_s: float, seed: int) -> None:
    frames = drawn_speech(duration_s, seed, Manner())

    assert len(frames) * FRAME_S >= duration_s
    assert set(np.unique(frames)) <= {0.0, 1.0}
    assert np.array_equal(frames, drawn_speech(duration_s, seed, Manner()))


@settings(max_examples=25)
@given(st.lists(st.integers(0, 5000), max_size=30))
def test_a_listener_hears_each_frame_once_however_samples_are_cut(sizes: list[int]) -> None:
    script = drawn_speech(2.0, 1, Manner())
    listener = ScriptedListener(script)

    heard = np.concatenate([np.zeros(0, np.float32), *map(listener.hear, sizes)])

    frames = sum(sizes) // GATE_FRAME_SAMPLES
    expected = np.pad(script, (0, max(0, frames - len(script))))[:frames]
    assert np.array_equal(heard, expected)


def sample(num_streams: int, layers: float, busy: float) -> Sample:
    return Sample(0.0, 0, num_streams, layers, busy)


def test_depth_debt_asks_for_replicas_where_the_processor_does_not() -> None:
    seen = [sample(10, 4.0, 0.6)]
    by_debt = Autoscaler(ScalingRule(name="debt", target_debt=0.1), 2, 8)
    by_cpu = Autoscaler(ScalingRule(name="cpu", target_cpu=0.7), 2, 8)

    assert by_debt.wanted(15.0, 2, seen) == 4  # ten, of which two at once
    assert by_debt.wanted(30.0, 4, seen) == 4
    assert by_debt.wanted(60.0, 4, seen) == 8
    assert by_cpu.wanted(15.0, 2, seen) == 2


def test_an_empty_replica_owes_no_depth() -> None:
    seen = [sample(10, 4.0, 0.9), *[sample(0, 4.0, 0.0)] * 4]

    assert Autoscaler(ScalingRule(name="debt"), 1, 8).wanted(15.0, 5, seen) == 5


def test_streams_alone_ask_for_replicas_at_full_depth() -> None:
    scaler = Autoscaler(ScalingRule(name="debt", target_streams=16), 1, 8)

    assert scaler.wanted(15.0, 2, [sample(30, 8.0, 0.5)]) == 4


def test_a_fleet_shrinks_late_and_one_by_one() -> None:
    scaler = Autoscaler(ScalingRule(name="debt", target_streams=16), 1, 8)
    quiet = [sample(1, 8.0, 0.1)]

    assert scaler.wanted(0.0, 4, [sample(32, 8.0, 0.5)]) == 8
    assert scaler.wanted(590.0, 8, quiet) == 8
    assert scaler.wanted(615.0, 8, quiet) == 7
    assert scaler.wanted(630.0, 7, quiet) == 7
    assert scaler.wanted(915.0, 7, quiet) == 6


def test_without_a_rule_nothing_scales() -> None:
    assert Autoscaler(ScalingRule(), 1, 8).wanted(0.0, 3, [sample(99, 2.0, 1.0)]) == 3
