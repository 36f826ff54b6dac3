import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from benchmarks.dashboard_check import main, read
from benchmarks.expressions import Expression


def result(*values: str) -> dict[str, Any]:
    return {"data": {"result": [{"metric": {}, "value": [0, value]} for value in values]}}


def test_numbers_are_data() -> None:
    answer = read(Expression("panel 'a' A", "asr_streams_active"), result("NaN", "3"))

    assert (answer.verdict, answer.rows, answer.value) == ("data", 1, 3.0)


@pytest.mark.parametrize("values", [(), ("NaN",)])
def test_a_panel_without_a_number_is_missing(values: tuple[str, ...]) -> None:
    answer = read(Expression("panel 'a' A", "asr_streams_active"), result(*values))

    assert answer.verdict == "MISSING"


@pytest.mark.parametrize(
    ("place", "text"),
    [("rule AsrDown", "up == 0"), ("panel 'a' B", "rate(asr_depth_decisions_total[1m])")],
)
def test_what_waits_for_an_event_may_be_empty(place: str, text: str) -> None:
    assert read(Expression(place, text), result()).verdict == "nothing yet"


class Prometheus(BaseHTTPRequestHandler):
    """Has data for everything but the event loop's lag."""

    def do_GET(self) -> None:
        query = parse_qs(urlparse(self.path).query)["query"][0]
        body = json.dumps(result() if "loop_lag" in query else result("1"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the library's
        pass


@pytest.fixture
def prometheus() -> Generator[str]:
    server = HTTPServer(("127.0.0.1", 0), Prometheus)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_panel_without_data_fails_the_check(
    prometheus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([prometheus]) == 1

    said = capsys.readouterr()
    rows = json.loads(said.out)["results"]
    missing = [row["place"] for row in rows if row["verdict"] == "MISSING"]
    assert "panel 'Event loop wakes late (p99)' A" in missing
    assert len(rows) > 80
    assert len(missing) <= 3
