"""Every test of the whole app fails if the service blocks the event loop."""

from collections.abc import Generator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(autouse=True)
def event_loop_is_never_blocked() -> Generator[None]:
    with blockbuster_ctx("service") as buster:
        # The workers' queue is behind a lock that is never held for longer than a few statements.
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            held_briefly = {"submit", "_forget", "num_waiting"}
            buster.functions[name].can_block_in("service/scheduling/workers.py", held_briefly)
        yield
