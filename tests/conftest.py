"""Settings of the test run that are no option of pytest."""

from hypothesis import HealthCheck, settings


def pytest_configure() -> None:
    # A limit on wall-clock time fails on a busy machine for reasons that are not in the change.
    settings.register_profile(
        "untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("untimed")
