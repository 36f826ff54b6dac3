"""Live streams that one core keeps up with: lag, first words, finals and CPU, by number of streams.

    python -m benchmarks.capacity --clip FILE... --streams 4 8 16 24 > capacity.json

For each number a server of its own is started, pinned to one core, and this program streams to it
from another. Clips are looped with pauses between them, each stream from another place. Packets of
100 ms leave by an absolute clock: what counts as a packet's arrival is when it was due, so a server
that makes its clients wait does not look the quicker for it. `client_late_s` says how late this
program itself was; a row where that is much is no measurement of the server.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.capacity_log import PACKET_S, StreamLog, summarise
from benchmarks.capacity_server import PinnedServer
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.audio import SAMPLE_RATE_HZ, read_audio

Samples = npt.NDArray[np.float32]

FULL_SCALE = 32_767
PACKET_BYTES = 2 * round(PACKET_S * SAMPLE_RATE_HZ)
STAGGER_S = 1.0
"""Streams begin within so long, so that their chunks are not all due at once."""

CLOSING_S = 30.0
"""A server that owes finals for longer has failed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = arguments_of(__doc__).parse_args(arguments)
    environment = read_environment()  # of the machine, before this program keeps to one core
    os.sched_setaffinity(0, {options.client_core})
    clips = [read_audio(path) for path in options.clip]
    rows = [measure(count, clips, options) for count in options.streams]
    run = Run(
        benchmark="capacity",
        started=datetime.now(UTC),
        environment=environment,
        config=config_of(options, clips),
        warm_up=1,
        repeats=1,
    )
    print(json.dumps(document(run, rows)))


def config_of(options: argparse.Namespace, clips: Sequence[Samples]) -> dict[str, object]:
    """Give what `measure` was told."""
    return {
        "settings": options.setting,
        "drop": options.drop,
        "seconds": options.seconds,
        "settle_s": options.settle,
        "pause_s": options.pause,
        "packet_s": PACKET_S,
        "clips": len(clips),
        "clips_s": round(sum(map(len, clips)) / SAMPLE_RATE_HZ, 1),
        "server_core": options.server_core,
        "client_core": options.client_core,
    }


def measure(
    count: int,
    clips: Sequence[Samples],
    options: argparse.Namespace,
    server_class: type[PinnedServer] = PinnedServer,
) -> dict[str, object]:
    """Run so many streams against a server of their own."""
    environment = {"ASR_MAX_STREAMS": str(max(count, 1))}
    environment |= dict(setting.split("=", 1) for setting in options.setting)
    with server_class(options.server_core, environment) as server:
        sounds = [
            pcm(looped(clips, place, options.pause, options.seconds)) for place in range(count)
        ]
        uri = f"ws://127.0.0.1:{server.port}/v1/stream?drop={options.drop}"
        asyncio.run(_streams(uri, [pcm(looped(clips, 0, 0.5, options.warm_up))]))
        cpu_before_s, started_s = server.cpu_s(), time.monotonic()
        logs = asyncio.run(_streams(uri, sounds, options.settle))
        wall_s = time.monotonic() - started_s
        cpu_s = server.cpu_s() - cpu_before_s
        row = summarise(logs, audio_s=count * options.seconds)
        row |= {
            "streams": count,
            "server_cpu": round(cpu_s / wall_s, 4),
            "server_cpu_s_per_s": round(cpu_s / (count * options.seconds), 4),
            "server_memory_bytes": server.memory_bytes(),
        }
    print(json.dumps(row), file=sys.stderr)
    return row


def looped(clips: Sequence[Samples], first: int, pause_s: float, seconds: float) -> Samples:
    """Put clips one after the other, from the `first` on, with pauses, until so long."""
    pause = np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.float32)
    wanted, parts, there = round(seconds * SAMPLE_RATE_HZ), list[Samples](), 0
    while there < wanted:
        for part in (clips[first % len(clips)], pause):
            parts.append(part)
            there += len(part)
        first += 1
    return np.concatenate(parts)[:wanted]


def pcm(samples: Samples) -> bytes:
    """Give 16-bit samples."""
    scaled = np.rint(np.clip(samples, -1.0, 1.0) * FULL_SCALE)
    return scaled.astype("<i2").tobytes()


def arguments_of(description: str | None) -> argparse.ArgumentParser:
    """Give a parser of what such measurements are told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clip", type=Path, required=True, nargs="+")
    parser.add_argument("--streams", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each stream")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds of one stream before")
    parser.add_argument(
        "--settle", type=float, default=0.0, help="seconds of each stream whose delays do not count"
    )
    parser.add_argument("--pause", type=float, default=1.5, help="seconds between clips")
    parser.add_argument("--drop", default="auto", help="auto, or a share of the layers")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument(
        "--setting", action="append", default=[], help="of the server, as in ASR_ENGINE=torch"
    )
    return parser


async def _streams(uri: str, sounds: Sequence[bytes], settled_s: float = 0.0) -> list[StreamLog]:
    begin_s = time.monotonic() + 0.5
    logs = [
        StreamLog(begin_s + STAGGER_S * place / len(sounds), len(sound) // PACKET_BYTES, settled_s)
        for place, sound in enumerate(sounds)
    ]
    return await asyncio.gather(*map(_stream, [uri] * len(sounds), sounds, logs))


async def _stream(uri: str, sound: bytes, log: StreamLog) -> StreamLog:
    try:
        async with connect(uri, compression=None, ping_timeout=None, max_queue=None) as socket:
            hearing = asyncio.create_task(_hear(socket, log))
            await _speak(socket, sound, log)
            await asyncio.wait_for(hearing, CLOSING_S)
    except (OSError, TimeoutError, WebSocketException) as error:
        log.fail(type(error).__name__)
    return log


async def _speak(socket: ClientConnection, sound: bytes, log: StreamLog) -> None:
    for packet in range(log.num_packets):
        due_s = log.due_s(packet)
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        log.client_late_s.append(time.monotonic() - due_s)
        await socket.send(sound[packet * PACKET_BYTES : (packet + 1) * PACKET_BYTES])
    await socket.send(json.dumps({"type": "stop"}))


async def _hear(socket: ClientConnection, log: StreamLog) -> None:
    try:
        async for message in socket:
            log.take(json.loads(message), time.monotonic())
    except ConnectionClosed as closed:
        log.fail(str(closed.rcvd.code if closed.rcvd else "lost"))


if __name__ == "__main__":
    main()
