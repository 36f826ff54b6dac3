"""Settings of the test run that are no option of pytest."""

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
