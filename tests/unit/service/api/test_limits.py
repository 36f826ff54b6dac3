import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.limits import TokenBuckets, network_of
from tests.service_kit import FakeClock

ASKS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=200)


def test_a_burst_is_granted_and_then_one_at_a_time() -> None:
    clock = FakeClock()
    buckets = TokenBuckets(2.0, 3, clock)

    assert [buckets.take("a") for _ in range(3)] == [0.0] * 3
    assert buckets.take("a") == pytest.approx(0.5)
    clock.now_s = 0.4
    assert buckets.take("a") == pytest.approx(0.1)
    clock.now_s = 0.5
    assert buckets.take("a") == 0.0


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    clock = FakeClock()
    buckets = TokenBuckets(2.0, 3, clock)
    buckets.take("a")
    clock.now_s = 1e6

    assert [buckets.take("a") for _ in range(3)] == [0.0] * 3
    assert buckets.take("a") > 0


def test_callers_do_not_take_from_each_other() -> None:
    buckets = TokenBuckets(1.0, 1, FakeClock())

    assert (buckets.take("a"), buckets.take("b")) == (0.0, 0.0)
    assert buckets.take("a") > 0


def test_without_a_rate_nobody_waits_and_nothing_is_kept() -> None:
    buckets = TokenBuckets(0.0, 1, FakeClock())

    assert [buckets.take("a") for _ in range(100)] == [0.0] * 100
    assert len(buckets) == 0


def test_memory_is_bounded_and_the_quietest_is_forgotten_first() -> None:
    buckets = TokenBuckets(1.0, 1, FakeClock(), max_buckets=2)
    for caller in ("quiet", "busy", "busy", "new"):
        buckets.take(caller)

    assert len(buckets) == 2
    assert buckets.take("busy") > 0
    assert buckets.take("quiet") == 0.0


@given(ASKS, st.floats(0.01, 10), st.integers(1, 20))
def test_nobody_is_ever_granted_more_than_burst_and_rate(
    asks: list[tuple[str, float]], rate_per_s: float, burst: int
) -> None:
    clock = FakeClock()
    buckets = TokenBuckets(rate_per_s, burst, clock)
    granted = dict.fromkeys("abc", 0)
    for caller, later_s in asks:
        clock.now_s += later_s
        wait_s = buckets.take(caller)
        granted[caller] += not wait_s

        assert granted[caller] <= burst + rate_per_s * clock.now_s + 1e-6
        assert 0 <= wait_s <= 1 / rate_per_s


@given(ASKS, st.floats(0.01, 10), st.integers(1, 20))
def test_whoever_waits_as_long_as_told_is_let_in(
    asks: list[tuple[str, float]], rate_per_s: float, burst: int
) -> None:
    clock = FakeClock()
    buckets = TokenBuckets(rate_per_s, burst, clock)
    for caller, later_s in asks:
        clock.now_s += later_s
        if wait_s := buckets.take(caller):
            clock.now_s += wait_s + 1e-6
            assert buckets.take(caller) == 0.0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
        ("", "unknown"),
        ("no address", "unknown"),
    ],
)
def test_an_address_counts_by_what_its_owner_cannot_change(
    address: str | None, network: str
) -> None:
    assert network_of(address) == network
