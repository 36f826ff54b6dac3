from dataclasses import dataclass, field
from typing import Any

from service.fleet.autoscaling import latest_reports
from service.fleet.reports import ReplicaReport


@dataclass
class Point:
    value: float


@dataclass
class Context:
    running_replicas: list[object]
    raw_metrics: dict[str, dict[Any, list[Point]]] | None
    target_num_replicas: int = 1
    policy_state: dict[str, Any] = field(default_factory=dict[str, Any])


def test_the_latest_value_of_each_series_makes_the_report() -> None:
    context = Context(
        ["a", "b"],
        {
            "weight": {"a": [Point(1), Point(7)], "b": [Point(2)]},
            "depth_debt": {"a": [Point(0.5)]},
        },
    )

    assert latest_reports(context) == [
        ReplicaReport(weight=7, depth_debt=0.5),
        ReplicaReport(weight=2),
    ]


def test_a_replica_that_has_not_reported_has_no_report() -> None:
    context = Context(["a", "b"], {"weight": {"b": [Point(2)], "a": []}})

    assert latest_reports(context) == [ReplicaReport(weight=2)]


def test_a_replica_that_leaves_is_left_out() -> None:
    context = Context(["a"], {"weight": {"a": [Point(1)], "gone": [Point(9)]}})

    assert latest_reports(context) == [ReplicaReport(weight=1)]


def test_before_anybody_reported_there_is_none() -> None:
    assert latest_reports(Context(["a"], None)) == []
