import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hardware import Environment, Hardware
from benchmarks.record import REQUIRED_KEYS, Run, Spread, document, file_name, missing_keys

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
HARDWARE = Hardware("AMD EPYC", ("avx2",), 2, 1, 2**30, "Linux")
RUN = Run(
    benchmark="peers",
    started=datetime(2026, 11, 22, 15, 0, tzinfo=UTC),
    environment=Environment(HARDWARE, {"python": "3.11.2"}, None),
    config={"threads": 1},
    warm_up=2,
    repeats=3,
)


def test_a_document_holds_all_that_is_required_and_survives_json() -> None:
    content = json.loads(json.dumps(document(RUN, [{"wer": 0.1}])))

    assert missing_keys(content) == []
    assert content["started"] == "2026-11-22T15:00:00+00:00"
    assert content["environment"]["hardware"]["processor"] == "AMD EPYC"


def test_what_is_missing_is_named() -> None:
    assert missing_keys({key: 1 for key in REQUIRED_KEYS if key != "repeats"}) == ["repeats"]


def test_a_file_name_says_what_where_and_when() -> None:
    assert file_name("peers", HARDWARE, date(2026, 11, 22)) == "peers_amd-epyc-2c_2026-11-22.json"


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_spread_holds_its_median(values: list[float]) -> None:
    spread = Spread.of(values)

    assert spread.low <= spread.median <= spread.high
    assert spread.median == median(values)


def test_every_committed_result_is_named_and_filled_as_the_readme_says() -> None:
    for path in sorted((BENCHMARKS / "results").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))

        assert re.fullmatch(r"[a-z0-9-]+_[a-z0-9-]+_\d{4}-\d\d-\d\d\.json", path.name)
        assert missing_keys(content) == [], path.name
        assert "utterances" not in content, f"texts belong to their corpora: {path.name}"


def test_the_readme_names_every_required_key() -> None:
    readme = (BENCHMARKS / "README.md").read_text(encoding="utf-8")

    assert [key for key in REQUIRED_KEYS if f"`{key}`" not in readme] == []
