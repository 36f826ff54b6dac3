"""What is read off the rounds of the last seconds."""

from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.load_window import BUSY_S, WINDOW_S, LoadWindow, RoundSample


def sample(ended_s: float, *latencies_s: float, took_s: float = 0.1) -> RoundSample:
    named = tuple((index, latency_s) for index, latency_s in enumerate(latencies_s))
    return RoundSample(ended_s - took_s, ended_s, named, 0.5 * len(named), 8)


def test_nothing_is_idle() -> None:
    assert LoadWindow().read(10.0).idle


def test_the_ninety_fifth_of_a_hundred_is_read() -> None:
    window = LoadWindow()
    window.add(sample(1.0, *(index / 100 for index in range(1, 101))))

    reading = window.read(1.0)

    assert reading.latency_s == 0.95
    assert (reading.samples, reading.num_streams) == (100, 100)


def test_what_is_over_is_forgotten() -> None:
    window = LoadWindow()
    window.add(sample(1.0, 5.0))

    assert window.read(1.0 + WINDOW_S).latency_s == 5.0
    assert window.read(1.1 + WINDOW_S).idle


def test_a_depth_is_judged_by_rounds_that_began_at_it() -> None:
    window = LoadWindow()
    window.add(sample(1.0, 2.0))
    window.add(sample(2.0, 0.7))  # waited for a round from before
    window.add(sample(2.5, 0.3))

    reading = window.read(2.5, since_s=1.5)

    assert (reading.latency_s, reading.samples) == (0.3, 1)
    assert reading.num_streams == 1
    assert not window.read(2.5, since_s=2.5).idle  # somebody was here, though nothing is known


def test_what_waits_now_counts_before_its_round_ends() -> None:
    window = LoadWindow()
    window.add(sample(1.0, 0.1))

    assert window.read(4.0, waiting_s=2.9).latency_s == 2.9


def test_the_engine_is_busy_for_the_share_of_the_last_moments_that_rounds_took() -> None:
    window = LoadWindow()
    window.add(sample(1.0, 0.1, took_s=1.0))
    window.add(sample(2.0, 0.1, took_s=0.75))
    window.add(sample(3.0, 0.1, took_s=0.25))

    assert window.read(3.0).busy_ratio == (0.5 + 0.25) / BUSY_S
    assert window.read(3.5, waiting_s=0.5).busy_ratio == (0.25 + 0.5) / BUSY_S


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_the_quantile_is_one_of_those_measured_and_few_are_above(latencies: list[float]) -> None:
    window = LoadWindow()
    window.add(sample(1.0, *latencies))

    read_s = window.read(1.0).latency_s

    assert read_s in latencies
    assert sum(one > read_s for one in latencies) <= 0.05 * len(latencies)
