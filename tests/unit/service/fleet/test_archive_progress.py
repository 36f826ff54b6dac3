import pytest

from service.fleet.archive_progress import ArchiveProgress
from tests.service_kit import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100.0)


def begun(clock: FakeClock, num_files: int = 4, size_bytes: int = 400) -> ArchiveProgress:
    return ArchiveProgress(clock, num_files, size_bytes)


def test_speed_and_what_is_left_come_from_what_was_done(clock: FakeClock) -> None:
    progress = begun(clock)
    clock.now_s += 10
    progress.done(100, 900.0, 5, failed=False)

    assert progress.line() == "1 of 4 files, 0.25 h of audio, 90x real time, 0:30 to go"


def test_hours_to_go_are_hours(clock: FakeClock) -> None:
    progress = begun(clock, size_bytes=100_000)
    clock.now_s += 10
    progress.done(100, 900.0, 5, failed=False)

    assert progress.line().endswith("2:46:30 to go")


def test_nothing_is_estimated_from_the_first_moments(clock: FakeClock) -> None:
    progress = begun(clock)
    clock.now_s += 1
    progress.done(100, 5.0, 5, failed=False)

    assert progress.left_s is None


def test_failures_are_counted_and_count_as_done(clock: FakeClock) -> None:
    progress = begun(clock, num_files=1, size_bytes=100)
    clock.now_s += 10
    progress.done(100, 0.0, 0, failed=True)

    assert progress.line() == "1 of 1 files, 0.00 h of audio, 0x real time, 1 failed"


def test_nothing_is_fast_before_any_time_has_passed(clock: FakeClock) -> None:
    assert begun(clock).speed == 0.0


def test_a_size_that_grew_leaves_no_negative_time(clock: FakeClock) -> None:
    progress = begun(clock, size_bytes=50)
    clock.now_s += 10
    progress.done(100, 1.0, 1, failed=False)

    assert progress.left_s == 0.0
