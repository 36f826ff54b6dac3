"""One paced stream of a load: packets by an absolute clock, and all that it is told, with times."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from benchmarks.capacity import PACKET_BYTES
from benchmarks.capacity_log import PACKET_S

REFUSALS = frozenset({"overloaded", "depth_not_now", "rate_limited", "loading", "draining"})
"""Codes of an answer that says no rather than of a fault; so is close 1013."""
OVERLOADED_CLOSE = 1013
OVERLOADED_STATUS = frozenset({429, 503})


@dataclass(slots=True)
class Heard:
    """What a stream was told; times are of the monotonic clock.

    Args:
        start_s: when its first sample is spoken.
        num_packets: that it sends, unless it is cut short.
        told: messages with the time they came.
        late_s: how late each packet left.
        refused_s: how long after its first packet it was refused; None where it was not.
    """

    start_s: float
    num_packets: int
    told: list[tuple[float, dict[str, Any]]] = field(
        default_factory=list[tuple[float, dict[str, Any]]]
    )
    late_s: list[float] = field(default_factory=list[float])
    errors: list[str] = field(default_factory=list[str])
    refused_s: float | None = None

    def due_s(self, packet: int) -> float:
        """When a packet's last sample has been spoken, and the packet leaves."""
        return self.start_s + (packet + 1) * PACKET_S

    def refuse(self) -> None:
        """Note that the service said no."""
        if self.refused_s is None:
            self.refused_s = max(0.0, time.monotonic() - self.due_s(0))


async def stream(uri: str, sound: bytes, start_s: float, closing_s: float) -> Heard:
    """Speak a sound in real time from a moment on.

    Args:
        uri: of the WebSocket, with its query.
        sound: 16-bit samples at 16 kHz.
        start_s: of the monotonic clock.
        closing_s: how long finals may take once everything is said.
    """
    heard = Heard(start_s, len(sound) // PACKET_BYTES)
    await asyncio.sleep(max(0.0, start_s - time.monotonic()))
    try:
        async with connect(uri, compression=None, ping_timeout=None, max_queue=None) as socket:
            hearing = asyncio.create_task(_hear(socket, heard))
            try:
                await _speak(socket, sound, heard, hearing)
                await asyncio.wait_for(asyncio.shield(hearing), closing_s)
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)
    except InvalidStatus as error:
        if error.response.status_code in OVERLOADED_STATUS:
            heard.refuse()
        else:
            heard.errors.append(f"status {error.response.status_code}")
    except (OSError, TimeoutError, WebSocketException) as error:
        if heard.refused_s is None:
            heard.errors.append(type(error).__name__)
    return heard


async def _speak(
    socket: ClientConnection, sound: bytes, heard: Heard, hearing: "asyncio.Task[None]"
) -> None:
    for packet in range(heard.num_packets):
        due_s = heard.due_s(packet)
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        if hearing.done():
            return
        heard.late_s.append(time.monotonic() - due_s)
        await socket.send(sound[packet * PACKET_BYTES : (packet + 1) * PACKET_BYTES])
    await socket.send(json.dumps({"type": "stop"}))


async def _hear(socket: ClientConnection, heard: Heard) -> None:
    try:
        async for text in socket:
            message = json.loads(text)
            heard.told.append((time.monotonic(), message))
            if message["type"] == "error":
                if message["code"] in REFUSALS:
                    heard.refuse()
                else:
                    heard.errors.append(str(message["code"]))
    except ConnectionClosed as closed:
        code = closed.rcvd.code if closed.rcvd else None
        if code == OVERLOADED_CLOSE:
            heard.refuse()
        elif heard.refused_s is None:
            heard.errors.append("lost" if code is None else str(code))
