import pytest
from prometheus_client import CollectorRegistry

from service.engine.fake import FakeEngine
from service.metrics import create_metrics
from service.streaming.measures import StreamMeasures
from service.streaming.progress import Progress


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def progress(registry: CollectorRegistry) -> Progress:
    return Progress(StreamMeasures(create_metrics(registry), FakeEngine().load()))


def test_the_lag_of_a_message_is_the_age_of_the_last_packet_it_covers(progress: Progress) -> None:
    for number in range(1, 11):
        progress.arrived(1_600 * number, 0.1 * number)

    assert progress.cover(8_000, 0.7) == pytest.approx(0.2)
    assert progress.end_s == 0.5


def test_a_message_that_covers_nothing_new_is_as_late_as_what_it_speaks_of(
    progress: Progress,
) -> None:
    progress.arrived(1_600, 0.1)
    progress.cover(1_600, 0.2)

    assert progress.cover(1_600, 0.5) == pytest.approx(0.4)


def test_end_never_falls(progress: Progress) -> None:
    progress.cover(1_600, 0.0)
    progress.cover(800, 0.0)

    assert progress.end_s == 0.1


def test_every_packet_is_counted_once_when_all_of_it_is_covered(
    progress: Progress, registry: CollectorRegistry
) -> None:
    progress.arrived(1_600, 0.1)
    progress.arrived(3_200, 0.2)
    for position in (1_599, 1_600, 3_199, 3_200, 3_200):
        progress.cover(position, 1.0)

    assert registry.get_sample_value("asr_stream_lag_seconds_count") == 2
    assert registry.get_sample_value("asr_stream_lag_seconds_sum") == pytest.approx(1.7)


def test_tiny_packets_count_with_the_first_of_them(progress: Progress) -> None:
    for number in range(1, 101):
        progress.arrived(10 * number, 0.001 * number)

    assert progress.cover(1_000, 1.0) == pytest.approx(0.906)
    assert progress.arrival_of(1_001, 7.0) == 7.0


def test_a_lag_message_is_due_once_enough_is_covered(progress: Progress) -> None:
    progress.arrived(16_000, 1.0)

    assert progress.lag_due(6_000, 16_000, 0, 1.2) is None
    due = progress.lag_due(8_000, 16_000, 4_000, 1.2)

    assert due
    assert (due.end_s, due.buffered_s, due.accepted_s) == (0.5, 0.5, 0.25)
