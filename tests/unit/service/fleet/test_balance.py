from hypothesis import given
from hypothesis import strategies as st

from service.fleet.balance import SETTLES_S, Balance, num_above_mean
from service.fleet.reports import ReplicaReport
from service.fleet.view import Member
from tests.service_kit import FakeClock


def fleet(**reports: ReplicaReport) -> dict[str, Member]:
    return {name: Member(name, report) for name, report in reports.items()}


def shallow(weight: float) -> ReplicaReport:
    return ReplicaReport(weight=weight, depth_debt=0.25)


def test_a_replica_that_gives_up_depth_sends_away_what_is_above_the_mean() -> None:
    members = fleet(a=shallow(30), b=ReplicaReport(weight=0), c=ReplicaReport(weight=0))

    assert num_above_mean("a", members) == 20


def test_a_replica_at_full_depth_keeps_its_streams() -> None:
    members = fleet(a=ReplicaReport(weight=30), b=ReplicaReport(weight=0))

    assert num_above_mean("a", members) == 0


def test_a_replica_alone_keeps_its_streams() -> None:
    assert num_above_mean("a", fleet(a=shallow(30))) == 0


def test_nobody_is_sent_to_a_replica_that_takes_no_streams() -> None:
    members = fleet(a=shallow(30), b=ReplicaReport(weight=0, open=False))

    assert num_above_mean("a", members) == 0


def test_a_replica_that_is_not_in_the_fleet_keeps_its_streams() -> None:
    assert num_above_mean("x", fleet(a=shallow(30), b=shallow(0))) == 0


@given(st.lists(st.floats(0, 60), min_size=2, max_size=12))
def test_nobody_falls_below_the_mean_by_what_leaves(weights: list[float]) -> None:
    members = fleet(**{str(number): shallow(weight) for number, weight in enumerate(weights)})
    mean = sum(weights) / len(weights)

    for name, member in members.items():
        leaving = num_above_mean(name, members)
        assert leaving == 0 or member.report.weight - leaving >= mean - 1e-6


def test_those_asked_have_time_to_leave_before_others_are_asked() -> None:
    clock = FakeClock(100.0)
    balance, members = Balance("a", clock), fleet(a=shallow(10), b=ReplicaReport())

    first = balance.num_to_ask(members)
    balance.asked(first)
    at_once = balance.num_to_ask(members)
    clock.now_s += SETTLES_S

    assert (first, at_once, balance.num_to_ask(members)) == (5, 0, 5)


def test_where_nobody_could_be_asked_it_is_tried_again() -> None:
    clock = FakeClock(100.0)
    balance, members = Balance("a", clock), fleet(a=shallow(10), b=ReplicaReport())

    balance.asked(0)

    assert balance.num_to_ask(members) == 5
