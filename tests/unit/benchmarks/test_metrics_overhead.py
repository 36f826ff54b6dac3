import argparse

import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks.metrics_overhead import measure, uncounted


def test_what_is_counted_nowhere_can_be_counted() -> None:
    metrics = uncounted(CollectorRegistry())

    metrics.requests.outcomes.labels("stream", "ok").inc()
    metrics.streams.lag.observe(1.0)
    metrics.process.queue_depth.set_function(lambda: 1.0)


async def test_files_streams_and_scrapes_are_measured_in_pairs() -> None:
    clip = (0.1 * np.sin(np.arange(24_000) / 10)).astype(np.float32)

    rows = await measure([clip], argparse.Namespace(engine="fake", repeats=2))

    assert [row["work"] for row in rows] == ["file", "stream", "scrape"]
    assert [row["pairs"] for row in rows[:2]] == [2, 2]
    assert all(row["cpu_ratio_of_sums"] > 0 for row in rows[:2])
    assert rows[2]["share_of_a_core"] > 0
