"""The command and its files: service times measured, result files, what is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import CorpusInvalid
from benchmarks.record import missing_keys
from benchmarks.simulator.__main__ import SHIPPED, main
from benchmarks.simulator.capacity import capacity
from benchmarks.simulator.model_card import read_card
from benchmarks.simulator.service_times import Curve, read_service_times
from tests.simulator_kit import fleet, times

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def measured() -> Path:
    return max(RESULTS.glob("service-times_*.json"))


def test_the_command_prints_a_result_file_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"

    main(
        ["--times", str(measured()), "--trace", "step", "--peak", "4", "--minutes", "0.1",
         "--tail", "2", "--policy", "fixed", "brownout", "--drop", "0.5", "--out", str(out)]
    )  # fmt: skip

    content = json.loads(out.read_text("utf-8"))
    printed = capsys.readouterr().out.splitlines()
    assert json.loads(printed[-1]) == content
    assert missing_keys(content) == []
    assert [row["policy"] for row in content["results"]] == ["fixed 0.5", "brownout"]
    assert content["config"]["times"] == measured().name
    assert all(row["failed"] == 0 for row in content["results"])


def test_what_was_measured_covers_the_depths_the_controller_uses() -> None:
    card, found = read_card(SHIPPED), read_service_times(measured())

    usual = [
        plan.effective_layers for plan in card.plans if card.wer_ratio(plan.effective_layers) < 2
    ]
    took_s = [found.encode_s([layers] * 16, [1.0] * 16) for layers in usual]
    assert took_s == sorted(took_s, reverse=True)
    assert min(found.chunk_s) <= min(usual)


def test_a_result_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"benchmark": "capacity"}), "utf-8")

    with pytest.raises(
        CorpusInvalid, match=r"expected a result of 'service-times'.*got 'capacity'"
    ):
        read_service_times(path)


@settings(max_examples=50)
@given(st.dictionaries(st.integers(1, 64), st.floats(0, 1), min_size=1), st.floats(0, 100))
def test_a_curve_goes_through_its_points_and_stays_within_them(
    points: dict[float, float], place: float
) -> None:
    curve = Curve.of(points)

    assert all(curve.at(at) == pytest.approx(value) for at, value in points.items())
    assert min(points.values()) - 1e-9 <= curve.at(place) <= max(points.values()) + 1e-9


def test_depths_side_by_side_take_the_sum_of_their_shares() -> None:
    found = times(0.02)

    mixed_s = found.encode_s([8.0, 4.0, 4.0], [1.0, 1.0, 0.5])

    assert mixed_s == pytest.approx(0.02 + 0.01 + 0.005)
    assert found.write_s([]) == 0.0
    assert found.write_s([3, 1]) == pytest.approx(0.001 + 3 * 0.0005 + 4 * 0.0001)


def test_capacity_is_the_most_streams_that_keep_their_lag() -> None:
    quick, slow = (capacity(fleet(chunk_s), seconds=8, seed=1) for chunk_s in (0.1, 0.2))

    assert 0 < slow < quick < 32
