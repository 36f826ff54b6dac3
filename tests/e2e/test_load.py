"""`locustfile.py` run for some seconds against a started server, as `make load` does."""

import csv
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.e2e.server_process import started

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
RUN_S = 12


@pytest.fixture
def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("LOAD_", "LOCUST_"))}  # noqa: TID251


@pytest.mark.timeout(120)
def test_a_load_of_files_and_streams_agrees_with_the_servers_metrics(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    if find_spec("locust") is None:
        pytest.skip("expected the extra `load`, found no locust")
    with started(engine="fake") as server:
        run = subprocess.run(
            [
                sys.executable, "-m", "locust", "--headless", "--only-summary",
                "--host", f"http://127.0.0.1:{server.port}", "--csv", str(tmp_path / "load"),
                "-u", "4", "-r", "4", "-t", f"{RUN_S}s", "--stream-seconds", "4",
            ],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        _, metrics = server.ask("GET", "/metrics")

    assert run.returncode == 0, run.stderr
    with (tmp_path / "load_stats.csv").open() as lines:
        counted = {row["Name"]: int(row["Request Count"]) for row in csv.DictReader(lines)}
    streams, finals = counted["ws stream"], counted["ws final"]
    assert {"POST /transcribe", "ws first partial", "ws lag"} <= set(counted)
    assert streams >= 2
    assert (
        streams
        <= metric(metrics, 'asr_streams_total{close_reason="stop",dialect="native"}')
        <= streams + 4
    )
    assert finals <= metric(metrics, "asr_stream_final_seconds_count") <= finals + 8
    assert counted["ws lag"] <= metric(metrics, "asr_stream_lag_seconds_count")


def metric(metrics: bytes, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics.decode(), re.MULTILINE)
    assert found, f"expected {name} among the metrics"
    return float(found[1])
