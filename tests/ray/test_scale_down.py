"""Replicas come and go by the load while streams are open; nothing of what was said is lost by it."""

import asyncio

import pytest

from tests.fleet_kit import fleet, play, sentences

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(280)]


async def test_a_spare_replica_leaves_and_the_streams_it_had_go_on_elsewhere() -> None:
    with fleet(
        ASR_REPLICAS_MIN="1",
        REPLICAS_MAX="2",
        ASR_REPLICA_CORES="0.5",
        ASR_REPLICA_SPARE_S="6",
        ASR_SHUTDOWN_GRACE_S="10",
        ASR_EARLY_REFUSAL="false",
        ASR_TWO_PASS_FINALS="false",  # one of 2.5 s would be as late as an overload is
        # Nine such streams are more than one replica keeps up with, two are not.
        ASR_FAKE_REALTIME_FACTOR="0.25",
    ) as running:
        crowd = [asyncio.create_task(play(running, sentences(8))) for _ in range(8)]
        long = [asyncio.create_task(play(running, sentences(30)))]
        await asyncio.to_thread(running.wait, lambda them: len(them) == 2, "two replicas", 60.0)
        # This one goes to the new replica, so that whichever leaves has a stream.
        long.append(asyncio.create_task(play(running, sentences(30))))
        await asyncio.gather(*crowd)
        await asyncio.to_thread(running.wait, lambda them: len(them) == 1, "one replica", 60.0)
        assert not any(task.done() for task in long)  # what left did so under open streams
        heard = await asyncio.gather(*long)

    assert not any(one.missing for one in heard)
    assert all([number for number, _ in one.finals] == list(range(30)) for one in heard)
    assert len({tuple(one.finals) for one in heard}) == 1
    moved = [one for one in heard if any(w["code"] == "draining" for w in one.all("warning"))]
    assert moved
    assert all(len(one.all("ready")) > 1 for one in moved)
