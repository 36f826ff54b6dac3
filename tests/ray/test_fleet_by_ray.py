"""The same fleet by the proxy of Ray Serve, which is the way in where HAProxy is not."""

import asyncio
from collections.abc import Generator

import httpx
import pytest

from benchmarks.fleet_server import descendants
from tests.fleet_kit import (
    Fleet,
    fleet,
    open_doors,
    outlive_a_killed_replica,
    play,
    sentences,
    title_of,
)
from tests.service_kit import wav_bytes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def running() -> Generator[Fleet]:
    with fleet(
        ASR_FLEET_INGRESS="ray",
        ASR_REPLICAS_MIN="2",
        REPLICAS_MAX="2",
        ASR_REPLICA_CORES="0.5",
        ASR_SHUTDOWN_GRACE_S="4",
    ) as started:
        started.wait(lambda replicas: len(replicas) == 2, "two replicas")
        yield started


def test_a_file_is_transcribed(running: Fleet) -> None:
    answer = httpx.post(f"{running.url}/transcribe?drop=0", content=wav_bytes(1), timeout=20)

    assert answer.json()["text"] == "alpha bravo"


def test_nothing_listens_beyond_loopback_and_no_haproxy_runs(running: Fleet) -> None:
    pids = [running.process.pid, *descendants(running.process.pid)]

    assert open_doors(pids) == set()
    assert not [pid for pid in pids if "haproxy" in title_of(pid)]


async def test_streams_are_shared_out_and_heard_to_the_end(running: Fleet) -> None:
    streams = [asyncio.create_task(play(running, sentences(2))) for _ in range(6)]
    await asyncio.sleep(2.5)
    loads = [one["streams"] for one in await asyncio.to_thread(running.replicas)]
    heard = await asyncio.gather(*streams)

    assert sorted(loads) == [3, 3]
    assert all([number for number, _ in one.finals] == [0, 1] for one in heard)


async def test_the_streams_of_a_replica_that_is_killed_go_on_without_a_lost_or_doubled_word(
    running: Fleet,
) -> None:
    await outlive_a_killed_replica(running)


def test_told_to_stop_it_ends_well(running: Fleet) -> None:
    assert running.stop() == 0
