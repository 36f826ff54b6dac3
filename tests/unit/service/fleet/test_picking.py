from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.fleet.picking import REPORT_TAKES_S, SentLately, by_load
from service.fleet.reports import ReplicaReport
from tests.service_kit import FakeClock


def test_the_replica_with_the_least_load_comes_first() -> None:
    reports = {"a": ReplicaReport(weight=5), "b": ReplicaReport(weight=1.5)}

    assert by_load(reports, {}, {}) == ["b", "a"]


def test_what_was_sent_since_the_report_counts_on_top() -> None:
    reports = {"a": ReplicaReport(weight=2), "b": ReplicaReport(weight=1)}

    assert by_load(reports, {"b": 2}, {}) == ["a", "b"]


def test_a_replica_that_takes_no_streams_comes_last() -> None:
    reports = {"a": ReplicaReport(weight=0, open=False), "b": ReplicaReport(weight=30)}

    assert by_load(reports, {}, {}) == ["b", "a"]


def test_lots_are_drawn_among_equals() -> None:
    reports = {"a": ReplicaReport(), "b": ReplicaReport()}

    assert by_load(reports, {}, {"a": 0.7, "b": 0.1}) == ["b", "a"]


def test_a_burst_that_no_report_shows_is_spread_evenly() -> None:
    sent, reports = SentLately(FakeClock()), {name: ReplicaReport() for name in "abc"}

    for number in range(30):
        sent.sent(by_load(reports, sent.numbers(), {})[0], str(number))

    assert sent.numbers() == Counter(a=10, b=10, c=10)


def test_a_request_that_ended_counts_no_more() -> None:
    sent = SentLately(FakeClock())
    sent.sent("a", "1")

    sent.ended("1")

    assert not sent.numbers()


def test_a_request_that_ended_unknown_is_passed_over() -> None:
    sent = SentLately(FakeClock())

    sent.ended("1")

    assert not sent.numbers()


def test_a_request_that_went_elsewhere_after_all_counts_there() -> None:
    sent = SentLately(FakeClock())

    sent.sent("a", "1")
    sent.sent("b", "1")

    assert sent.numbers() == Counter(b=1)


def test_what_a_report_shows_by_now_is_not_counted_twice() -> None:
    clock = FakeClock()
    sent = SentLately(clock)
    sent.sent("a", "1")

    clock.now_s += REPORT_TAKES_S
    sent.sent("a", "2")

    assert sent.numbers() == Counter(a=1)


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=2),
        st.builds(ReplicaReport, weight=st.floats(0, 50), open=st.booleans()),
        max_size=6,
    ),
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.integers(0, 9), max_size=6),
)
def test_every_replica_is_asked_once_and_an_open_one_before_a_shut_one(
    reports: dict[str, ReplicaReport], num_sent: dict[str, int]
) -> None:
    order = by_load(reports, num_sent, {})

    assert sorted(order) == sorted(reports)
    openness = [reports[name].open for name in order]
    assert openness == sorted(openness, reverse=True)
