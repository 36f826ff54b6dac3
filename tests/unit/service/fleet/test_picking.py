from collections import Counter

from hypothesis import assume, given
from hypothesis import strategies as st

from service.fleet.picking import REPORT_TAKES_S, SentLately, balancer_weights, by_load
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
        sent.sent(by_load(reports, sent.numbers(reports), {})[0], str(number))

    assert sent.numbers(reports) == Counter(a=10, b=10, c=10)


@given(st.lists(st.sampled_from(["stream", "stream", "stream", "a", "b"]), max_size=60))
def test_a_burst_is_spread_evenly_whoever_reports_in_between(events: list[str]) -> None:
    sent, reports = SentLately(FakeClock()), {name: ReplicaReport() for name in "ab"}
    streams = Counter(a=0, b=0)

    for number, event in enumerate(events):
        if event == "stream":
            chosen = by_load(reports, sent.numbers(reports), {})[0]
            sent.sent(chosen, str(number))
            streams[chosen] += 1
        else:
            reports[event] = ReplicaReport(weight=streams[event], streams=streams[event])

    assert max(streams.values()) - min(streams.values()) <= 1


def test_a_request_that_ended_counts_no_more() -> None:
    sent = SentLately(FakeClock())
    sent.sent("a", "1")

    sent.ended("1")

    assert not sent.numbers({})


def test_a_request_that_ended_unknown_is_passed_over() -> None:
    sent = SentLately(FakeClock())

    sent.ended("1")

    assert not sent.numbers({})


def test_a_request_that_went_elsewhere_after_all_counts_there() -> None:
    sent = SentLately(FakeClock())

    sent.sent("a", "1")
    sent.sent("b", "1")

    assert sent.numbers({}) == Counter(b=1)


def test_what_a_report_shows_by_now_is_not_counted_twice() -> None:
    clock = FakeClock()
    sent = SentLately(clock)
    sent.sent("a", "1")

    clock.now_s += REPORT_TAKES_S
    sent.sent("a", "2")

    assert sent.numbers({}) == Counter(a=1)


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


def next_by_connections(reports: dict[str, ReplicaReport], connections: dict[str, int]) -> str:
    """What HAProxy does with `leastconn`."""
    weights = {name: one for name, one in balancer_weights(reports).items() if one}
    return min(weights, key=lambda name: (connections[name] + 1) / weights[name])


def test_connections_alone_decide_where_all_streams_cost_the_same() -> None:
    reports = {
        "a": ReplicaReport(weight=9, streams=9),
        "b": ReplicaReport(weight=3, streams=2, files=1),
    }

    assert set(balancer_weights(reports).values()) == {256}


def test_streams_of_half_the_depth_count_half() -> None:
    reports = {
        "half": ReplicaReport(weight=5, streams=10),
        "whole": ReplicaReport(weight=7, streams=7),
    }

    assert next_by_connections(reports, {"half": 10, "whole": 7}) == "half"


def test_a_replica_that_takes_no_streams_gets_no_connection() -> None:
    reports = {"shut": ReplicaReport(open=False), "open": ReplicaReport(weight=30, streams=30)}

    assert balancer_weights(reports) == {"shut": 0, "open": 256}


def test_where_nobody_takes_streams_all_are_asked_when_to_come_again() -> None:
    reports = {name: ReplicaReport(open=False) for name in "ab"}

    assert balancer_weights(reports) == {"a": 256, "b": 256}


def test_no_replicas_have_no_weights() -> None:
    assert balancer_weights({}) == {}


replica_reports = st.dictionaries(
    st.sampled_from("abcdef"),
    st.tuples(st.integers(0, 40), st.integers(0, 8), st.floats(0.3, 1.0), st.booleans()),
    min_size=1,
).map(
    lambda ones: {
        name: ReplicaReport(
            streams=streams, files=files, weight=streams * cost + files, open=is_open
        )
        for name, (streams, files, cost, is_open) in ones.items()
    }
)


@given(replica_reports)
def test_the_next_connection_goes_to_the_least_load_of_those_that_are_open(
    reports: dict[str, ReplicaReport],
) -> None:
    assume(any(one.open for one in reports.values()))
    connections = {name: one.streams + one.files for name, one in reports.items()}

    chosen = reports[next_by_connections(reports, connections)]

    least = min(one.weight for one in reports.values() if one.open)
    assert chosen.open
    assert chosen.weight <= least * 1.05 + 0.5  # weights are whole numbers


@given(replica_reports)
def test_weights_are_those_that_haproxy_takes(reports: dict[str, ReplicaReport]) -> None:
    weights = balancer_weights(reports)

    assert weights.keys() == reports.keys()
    assert all(0 <= one <= 256 for one in weights.values())
    assert any(weights.values())
