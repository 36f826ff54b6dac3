from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.base import PlanInUse
from service.fleet.reports import ReplicaReport, report_of, stream_weight
from tests.service_kit import running

HALF = PlanInUse((2,) * 8, 4.0, 8, 0.5)


@dataclass
class Dial:
    source: str
    wanted: PlanInUse = HALF


def test_a_stream_that_leaves_its_depth_to_the_load_weighs_as_a_whole_one() -> None:
    assert stream_weight([Dial("auto")], 1) == 1.0


def test_a_stream_that_asked_for_half_the_depth_weighs_half() -> None:
    assert stream_weight([Dial("request"), Dial("auto")], 2) == 1.5


def test_a_stream_that_has_a_place_and_no_session_yet_weighs_as_a_whole_one() -> None:
    assert stream_weight([Dial("request")], 3) == 2.5


@given(
    st.builds(
        ReplicaReport,
        rank=st.integers(0, 500),
        weight=st.floats(0, 100),
        streams=st.integers(0, 100),
        depth_debt=st.floats(0, 1),
        lag_s=st.floats(0, 60),
        busy_ratio=st.floats(0, 1),
        open=st.booleans(),
    )
)
def test_a_report_comes_back_from_the_wire_as_it_was_but_for_rounding(
    report: ReplicaReport,
) -> None:
    back = ReplicaReport.from_stats(report.as_stats())

    assert (back.rank, back.streams, back.open) == (report.rank, report.streams, report.open)
    assert back.weight == pytest.approx(report.weight, abs=0.005)
    assert back.depth_debt == pytest.approx(report.depth_debt, abs=0.005)
    assert back.lag_s == pytest.approx(report.lag_s, abs=0.005)
    assert ReplicaReport.from_stats(back.as_stats()) == back


def test_a_replica_that_has_not_reported_counts_as_empty_and_open() -> None:
    assert ReplicaReport.from_stats({}) == ReplicaReport(open=True)


async def test_an_idle_service_reports_that_it_does_nothing_and_is_open() -> None:
    async with running() as service:
        report = report_of(service.service, 0.0, rank=3)

    assert report == replace(ReplicaReport(), rank=3)


async def test_a_service_that_drains_reports_that_it_is_shut() -> None:
    async with running() as service:
        service.service.admission.drain()
        report = report_of(service.service, 0.0, rank=0)

    assert not report.open


async def test_a_stream_and_a_file_weigh_one_each() -> None:
    async with running() as service:
        admission = service.service.admission
        with admission.streams.hold(), admission.work():
            report = report_of(service.service, 0.0, rank=0)

    assert (report.weight, report.streams) == (2.0, 1)
