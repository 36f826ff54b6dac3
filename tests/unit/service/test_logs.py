import logging
from collections.abc import Generator

import pytest

from service.logs import configure_logs


@pytest.fixture(autouse=True)
def root_logger() -> Generator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_events_at_or_above_the_level_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("warning")

    logging.getLogger("room").info("quiet")
    logging.getLogger("room").warning("loud %s", 1)

    captured = capsys.readouterr()
    assert "quiet" not in captured.err
    assert captured.err.endswith("WARNING room: loud 1\n")
    assert not captured.out
