"""How often a caller may ask: one token bucket each, refilled steadily.

    tokens |burst|-- a request takes one --> |burst - 1| -- 1 / rate seconds --> |burst|

Written here and not taken from a library because it has to be bounded in memory, whoever asks, and
driven by an injected clock.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from service.scheduling.clock import Clock

MAX_BUCKETS = 10_000
"""Of callers at once; about 2 MB. Beyond, the one that has been quiet for longest is forgotten."""
IPV6_NETWORK_BITS = 64
"""Of an IPv6 address; one household or machine has all addresses below it to choose from."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at_s: float


class TokenBuckets:
    """Many callers' buckets.

    Args:
        rate_per_s: tokens that each regains; 0 sets no limit.
        burst: tokens that a full bucket holds.
        clock: monotonic seconds.
        max_buckets: kept at once.
    """

    def __init__(
        self, rate_per_s: float, burst: int, clock: Clock, *, max_buckets: int = MAX_BUCKETS
    ) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock = clock
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: str) -> float:
        """Take a token.

        Returns:
            0.0, or the seconds until there is one; then none was taken.
        """
        if not self._rate_per_s:
            return 0.0
        now_s = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(float(self._burst), now_s)
            if len(self._buckets) > self._max_buckets:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        gained = (now_s - bucket.filled_at_s) * self._rate_per_s
        bucket.tokens = min(float(self._burst), bucket.tokens + gained)
        bucket.filled_at_s = now_s
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._rate_per_s
        bucket.tokens -= 1
        return 0.0


def network_of(address: str | None) -> str:
    """Give the part of a client's address that it cannot change at will."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"  # a Unix socket, or a proxy that does not say
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed.packed, IPV6_NETWORK_BITS), strict=False))
