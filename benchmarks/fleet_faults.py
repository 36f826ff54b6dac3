"""What streams notice when a replica, then a node is killed, and the fleet is deployed anew.

    python -m benchmarks.fleet_faults --streams 200 > fleet-faults.json

A real Ray cluster of three nodes on this machine: a head that holds the proxy, and two that hold the
replicas, with the fake engine. Paced streams play the same sentences; their clients resume as those
of `asr stream` do. Expected of each: all finals once, with the words of a stream that nothing
happened to. Told of each fault, of the streams that had to go on elsewhere because of it:

- `back_after_s`: from the fault to the replica that took them on; of a redeployment, where a replica
  goes when the next one is ready, from the warning that it goes
- `behind_replacement_s`: from the moment the fleet has a new replica, 0 where the others took them
  before that; of a redeployment from the last new one before they were back
- `without_server_s`: from the last word of one server to the first of the next

Streams that were asked to move once the new replica was there are told apart: `moved_later`.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import numpy as np

from benchmarks.fleet_server import descendants
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from service.cli.resume_state import Message, Missing
from service.cli.resuming import Patience, ResumingStream
from service.settings import Settings, set_up_ray

RATE_HZ = 16_000
PACKET_S = 0.1
PACKET_BYTES = 2 * round(PACKET_S * RATE_HZ)
STARTING_S = 10.0
"""Streams begin within so long."""
NODE_CORES = 2
TONE_PEAK = 3_000
LOOK_EVERY_S = 0.25
SEEN_LATE_S = 1.0
"""Time in which a new replica is seen from here: whoever goes because of it may hear of it before."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A server that took a stream on.

    Args:
        at_s: when it said so.
        because: why the one before ended: `lost`, `drain` or `move`.
        last_s: when that one said its last word.
        warned_s: when it said that it would end.
    """

    at_s: float
    because: str
    last_s: float
    warned_s: float | None


@dataclass
class Player:
    """One stream, and when it was told what.

    Args:
        url: of the fleet.
    """

    url: str
    finals: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    begins: list[Begin] = field(default_factory=list[Begin])
    heard_s: list[float] = field(default_factory=list[float])
    num_missing: int = 0
    failure: str | None = None
    ended_by: str = "lost"
    warned_s: float | None = None

    def tell(self, message: Message) -> None:
        """Take a message."""
        now_s = time.monotonic()
        if message["type"] == "ready":
            last_s = self.heard_s[-1] if self.heard_s else now_s
            self.begins.append(Begin(now_s, self.ended_by, last_s, self.warned_s))
            self.ended_by, self.warned_s = "lost", None
        elif message["type"] == "done":
            self.ended_by = message.get("reason", "stop")
        elif message["type"] == "warning" and message["code"] in {"draining", "moving"}:
            self.warned_s = now_s
        elif message["type"] == "final":
            self.finals.append((message["utt"], message["text"]))
        self.heard_s.append(now_s)

    def miss(self, missing: Missing) -> None:
        """Learn that sound is lost."""
        del missing
        self.num_missing += 1

    def wait(self, reason: str) -> None:
        """Learn that nobody is there."""
        del reason

    async def play(self, pcm: bytes, start_s: float) -> None:
        """Play sound from a moment on."""
        await asyncio.sleep(max(0.0, start_s - time.monotonic()))
        address = self.url.replace("http", "ws", 1) + "/v1/stream?drop=0"
        stream = ResumingStream(address, self.url, self, patience=Patience(give_up_s=120))
        try:
            await stream.run(_paced(pcm))
        except* ConnectionError as group:
            self.failure = str(group.exceptions[0])

    def begun(self, from_s: float, to_s: float) -> list[Begin]:
        """Give the servers that took it on between two moments, but for the first one of all."""
        return [one for one in self.begins[1:] if from_s < one.at_s <= to_s]

    def silence_s(self, from_s: float, to_s: float) -> float:
        """Give the longest time without a message between two moments."""
        to_s = min(to_s, self.heard_s[-1])
        inside = [from_s, *(one for one in self.heard_s if from_s < one < to_s), to_s]
        return max(later - earlier for earlier, later in pairwise(inside))


class ThreeNodes:
    """The cluster, and what can happen to it.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        set_up_ray(loopback=True)
        # Imported once the environment is set: Ray reads it when it is imported.
        import ray
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args=_node(0))
        self._nodes = [self._cluster.add_node(**_node(NODE_CORES)) for _ in range(2)]
        ray.init(address=self._cluster.address, log_to_driver=False)
        self.deploy()

    def deploy(self) -> None:
        """Deploy, for the first time or anew; returns once the replicas are ready."""
        from service.fleet.deploy import deploy

        deploy(self._settings, everywhere=False)

    def redeploy(self) -> None:
        """Deploy with a setting that is another: every replica is replaced."""
        grace_s = self._settings.shutdown_grace_s + 1
        self._settings = self._settings.model_copy(update={"shutdown_grace_s": grace_s})
        self.deploy()

    def kill_replica(self) -> None:
        """Kill one replica's process."""
        os.kill(self._replicas()[0], signal.SIGKILL)

    def kill_node(self) -> None:
        """Kill a node with all its processes."""
        self._cluster.remove_node(self._nodes.pop(), allow_graceful=False)

    def close(self) -> None:
        """End everything."""
        import ray
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        self._cluster.shutdown()

    def _replicas(self) -> list[int]:
        return [one for one in descendants(os.getpid()) if "ServeReplica" in _title(one)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parse(arguments)
    settings = Settings(
        engine="fake",
        fake_realtime_factor=options.realtime_factor,
        port=options.port,
        replicas_min=options.replicas,
        replicas_max=options.replicas,
        replica_cores=NODE_CORES / options.replicas,
        max_streams=options.streams,
        early_refusal=False,
        fleet_ingress=options.ingress,
    )
    environment, started, out = read_environment(), datetime.now(UTC), sys.stdout
    config = {name: value for name, value in vars(options).items() if name != "port"}
    run = Run(
        benchmark="fleet-faults",
        started=started,
        environment=environment,
        config={**config, "nodes": 3, "node_cores": NODE_CORES},
        warm_up=0,
        repeats=1,
    )
    with redirect_stdout(sys.stderr):  # Ray has things to say about workers that die
        cluster = ThreeNodes(settings)
        try:
            faults = {
                "replica killed": cluster.kill_replica,
                "node killed": cluster.kill_node,
                "deployed anew": cluster.redeploy,
            }
            rows = asyncio.run(_watch(f"http://127.0.0.1:{options.port}", faults, options))
            # Before the end of the cluster, which may take this process along: Ray ends a driver
            # whose node is gone.
            print(json.dumps(document(run, rows)), file=out, flush=True)
        finally:
            cluster.close()


async def _watch(
    url: str, faults: dict[str, Callable[[], None]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    pcm = _sentences(STARTING_S + (len(faults) + 1) * options.between)
    players, begin_s = [Player(url) for _ in range(options.streams)], time.monotonic() + 0.5
    playing = [
        asyncio.create_task(one.play(pcm, begin_s + STARTING_S * place / len(players)))
        for place, one in enumerate(players)
    ]
    moments: dict[str, float] = {}
    arrivals: dict[str, float] = {}
    watching = asyncio.create_task(_watch_replicas(url, arrivals))
    await asyncio.sleep(STARTING_S)
    for name, happens in faults.items():
        await asyncio.sleep(options.between)
        moments[name] = time.monotonic()
        print(f"{name} at {moments[name] - begin_s:.1f} s", file=sys.stderr)
        await asyncio.to_thread(happens)
    await asyncio.gather(*playing)
    watching.cancel()
    return [*by_fault(players, moments, list(arrivals.values())), _verdict(players, pcm)]


async def _watch_replicas(url: str, arrivals: dict[str, float]) -> None:
    """Note when each replica was there for the first time."""
    async with httpx.AsyncClient(timeout=5.0) as client:
        while True:
            with suppress(httpx.HTTPError, KeyError):  # asked while one falls: it is asked again
                answer = await client.get(f"{url}/fleet")
                for one in answer.json()["replicas"]:
                    arrivals.setdefault(one["name"], time.monotonic())
            await asyncio.sleep(LOOK_EVERY_S)


def by_fault(
    players: Sequence[Player], moments: Mapping[str, float], arrivals: Sequence[float]
) -> list[dict[str, Any]]:
    """Say what each fault did to streams.

    Args:
        players: the streams.
        moments: when each fault came, in order.
        arrivals: when new replicas were there.
    """
    ends = [*list(moments.values())[1:], max(one.heard_s[-1] for one in players)]
    rows: list[dict[str, Any]] = []
    for (name, at_s), end_s in zip(moments.items(), ends, strict=True):
        there = [one for one in players if one.heard_s[-1] > at_s]
        begun = {id(one): one.begun(at_s, end_s) for one in there}
        forced = [
            [begin for begin in begins if begin.because != "move"] for begins in begun.values()
        ]
        new = [one for one in arrivals if at_s < one <= end_s]
        rows.append(
            {
                "fault": name,
                "replicas_ready_after_s": [round(one - at_s, 2) for one in new],
                "streams_hit": sum(map(bool, forced)),
                "moved_later": sum(
                    any(one.because == "move" for one in begins) for begins in begun.values()
                ),
                "most_servers_of_one": max(map(len, begun.values()), default=0),
                "back_after_s": _spread(
                    [one.at_s - (one.warned_s or at_s) for begins in forced for one in begins]
                ),
                "behind_replacement_s": _spread(
                    [behind_replacement_s(begins[-1], new) for begins in forced if begins]
                ),
                "without_server_s": _spread(
                    [one.at_s - one.last_s for begins in forced for one in begins]
                ),
                "others_longest_silence_s": _spread(
                    [one.silence_s(at_s, end_s) for one in there if not begun[id(one)]]
                ),
            }
        )
    return rows


def behind_replacement_s(begin: Begin, new: Sequence[float]) -> float:
    """Give how long after the last new replica before it a stream was back; 0 before the first."""
    seen_by_then = [one for one in new if one <= begin.at_s + SEEN_LATE_S]
    return max(0.0, begin.at_s - max(seen_by_then, default=begin.at_s))


def _verdict(players: Sequence[Player], pcm: bytes) -> dict[str, Any]:
    usual = max({tuple(one.finals) for one in players}, key=[*map(_finals, players)].count)
    numbers = [number for number, _ in usual]
    return {
        "streams": len(players),
        "audio_s": round(len(players) * len(pcm) / 2 / RATE_HZ, 1),
        "finals_of_each": len(usual),
        "numbered_without_a_gap": numbers == list(range(len(usual))),
        "streams_with_other_finals": sum(tuple(one.finals) != usual for one in players),
        "streams_that_lost_sound": sum(one.num_missing > 0 for one in players),
        "streams_that_failed": sum(one.failure is not None for one in players),
    }


def _finals(player: Player) -> tuple[tuple[int, str], ...]:
    return tuple(player.finals)


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    p50, p95 = np.percentile(values, (50, 95))
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "max": round(max(values), 2)}


def _sentences(seconds: float) -> bytes:
    """Tones of 1 to 2.5 s with pauses of a second."""
    tone = np.sin(np.arange(round(2.5 * RATE_HZ)) / 10) * TONE_PEAK
    pause = np.zeros(RATE_HZ)
    lengths = [round((1.0 + 0.5 * (number % 4)) * RATE_HZ) for number in range(round(seconds))]
    parts = [part for length in lengths for part in (pause, tone[:length])]
    wanted = round(seconds * RATE_HZ) - len(pause)
    return np.concatenate([np.concatenate(parts)[:wanted], pause]).astype("<i2").tobytes()


async def _paced(pcm: bytes) -> AsyncGenerator[bytes]:
    began_s = time.monotonic()
    for number, place in enumerate(range(0, len(pcm), PACKET_BYTES)):
        await asyncio.sleep(max(0.0, began_s + number * PACKET_S - time.monotonic()))
        yield pcm[place : place + PACKET_BYTES]


def _node(cores: int) -> dict[str, Any]:
    return {"num_cpus": cores, "object_store_memory": 100 * 1024 * 1024, "include_dashboard": False}


def _title(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--between", type=float, default=30.0, help="seconds between two faults")
    parser.add_argument("--realtime-factor", type=float, default=0.005, help="of the fake engine")
    parser.add_argument("--ingress", choices=("haproxy", "ray"), default="haproxy")
    parser.add_argument("--port", type=int, default=8200)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
