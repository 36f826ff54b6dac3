"""Settings of the test run that are no option of pytest, and what every test leaves as it was."""

import logging
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings


def pytest_configure() -> None:
    # Equal runs draw equal examples. A limit on wall-clock time fails on a busy machine for reasons
    # that are not in the change.
    settings.register_profile(
        "repeatable",
        settings.default,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def root_logger() -> Generator[None]:
    """Have the root logger as it was: commands and actors set it up as their process'."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
