import json
import logging
from collections.abc import Generator
from typing import Any

import pytest

from service.logs import REQUEST_ID, configure_logs, fields


@pytest.fixture
def request_id() -> Generator[str]:
    token = REQUEST_ID.set("trace-1")
    yield "trace-1"
    REQUEST_ID.reset(token)


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_events_at_or_above_the_level_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("warning")

    logging.getLogger("room").info("quiet")
    logging.getLogger("room").warning("loud %s", 1)

    captured = capsys.readouterr()
    assert "quiet" not in captured.err
    assert captured.err.endswith("WARNING room: loud 1\n")
    assert not captured.out


def test_a_line_for_people_names_its_request(
    request_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("info")

    logging.getLogger("room").info("done", extra=fields(status=200))

    assert capsys.readouterr().err.endswith(f"room: done [{request_id}]\n")


def test_a_line_for_programs_is_one_object_with_its_fields(
    request_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("info", "json")

    logging.getLogger("room").info("%d words\nin two lines", 2, extra=fields(status=200, key=None))

    (event,) = written(capsys)
    assert event.pop("time").endswith("+00:00")
    assert event == {
        "level": "info",
        "logger": "room",
        "message": "2 words\nin two lines",
        "request_id": request_id,
        "status": 200,
    }


def test_a_traceback_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logging.getLogger("room").exception("failed")

    (event,) = written(capsys)
    assert "ZeroDivisionError: division" in event["exception"]
    assert "request_id" not in event
