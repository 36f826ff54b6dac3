"""A real fleet of two replicas on a Ray of this machine, with the fake engine."""

import asyncio
import os
import signal
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from benchmarks.fleet_server import descendants
from service.fleet.haproxy import haproxy_program
from tests.fleet_kit import (
    Fleet,
    Heard,
    fleet,
    open_doors,
    outlive_a_killed_replica,
    play,
    sentences,
    title_of,
)
from tests.service_kit import wav_bytes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

HAPROXY = haproxy_program()


@pytest.fixture(scope="module")
def running() -> Generator[Fleet]:
    with fleet(
        ASR_REPLICAS_MIN="2", REPLICAS_MAX="2", ASR_REPLICA_CORES="0.5", ASR_SHUTDOWN_GRACE_S="8"
    ) as started:
        started.wait(lambda replicas: {one["rank"] for one in replicas} == {0, 1}, "two ranks")
        yield started


def test_the_page_and_the_routes_of_the_app_answer(running: Fleet) -> None:
    answers = {path: running.get(path).status_code for path in ("/", "/livez", "/v1/models")}

    assert answers == {"/": 200, "/livez": 200, "/v1/models": 200}


def test_a_file_is_transcribed(running: Fleet) -> None:
    answer = httpx.post(f"{running.url}/transcribe?drop=0", content=wav_bytes(1), timeout=20)

    assert answer.json()["text"] == "alpha bravo"
    assert answer.headers["X-ASR-Layers"] == "8/8"


def test_every_replica_has_metrics_of_its_own(running: Fleet) -> None:
    targets = running.get("/fleet/targets").json()
    pages = [httpx.get(f"http://{one['targets'][0]}/metrics").text for one in targets]

    assert [one["labels"] for one in targets] == [{"replica": "0"}, {"replica": "1"}]
    assert all("asr_model_ready 1.0" in page for page in pages)
    assert all("asr_fleet_replicas 2.0" in page for page in pages)
    assert running.get("/metrics").status_code == 404


def test_nothing_listens_beyond_loopback(running: Fleet) -> None:
    pids = [running.process.pid, *descendants(running.process.pid)]

    assert open_doors(pids) == set()


def test_no_usage_statistics_leave_and_the_dashboard_is_off(running: Fleet) -> None:
    # The process that would send statistics runs all the same; it must be told not to.
    senders = [one for one in descendants(running.process.pid) if "dashboard.py" in title_of(one)]
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in senders]

    assert senders
    assert all("--disable-frontend" in title_of(pid) for pid in senders)
    assert all(b"RAY_USAGE_STATS_ENABLED=0" in one.split(b"\0") for one in environments)


async def test_streams_are_shared_out_evenly(running: Fleet) -> None:
    streams = [asyncio.create_task(play(running, sentences(3))) for _ in range(8)]
    await asyncio.sleep(3)
    loads = [one["streams"] for one in await asyncio.to_thread(running.replicas)]
    heard = await asyncio.gather(*streams)

    assert sorted(loads) == [4, 4]
    assert {tuple(one.finals) for one in heard} == {tuple(heard[0].finals)}
    assert [number for number, _ in heard[0].finals] == [0, 1, 2]


async def test_the_streams_of_a_replica_that_is_killed_go_on_without_a_lost_or_doubled_word(
    running: Fleet,
) -> None:
    await outlive_a_killed_replica(running)


async def test_when_the_load_balancer_dies_another_takes_its_place_and_streams_go_on(
    running: Fleet,
) -> None:
    streams = [asyncio.create_task(play(running, sentences(4))) for _ in range(3)]
    await asyncio.sleep(2)
    (victim,) = running.processes(HAPROXY)
    os.kill(victim, signal.SIGKILL)
    heard = await asyncio.gather(*streams)

    assert all(len(one.all("ready")) == 2 for one in heard)
    assert not any(one.missing for one in heard)
    assert all([number for number, _ in one.finals] == list(range(4)) for one in heard)


async def test_told_to_stop_streams_are_warned_end_at_a_pause_and_the_command_ends_well(
    running: Fleet,
) -> None:
    told = [Heard() for _ in range(4)]
    streams = [asyncio.create_task(play(running, sentences(6), one, 1.0)) for one in told]
    await asyncio.sleep(3)
    status = await asyncio.to_thread(running.stop)
    results = await asyncio.gather(*streams, return_exceptions=True)

    assert status == 0
    assert all(isinstance(one, BaseExceptionGroup) for one in results)  # nobody went on
    assert all([one["code"] for one in heard.all("warning")] == ["draining"] for heard in told)
    assert all([one["reason"] for one in heard.all("done")] == ["drain"] for heard in told)
    # What was heard before the pause became a final, and nothing after it was begun.
    assert all(heard.all("final") for heard in told)
