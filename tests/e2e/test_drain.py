"""Signals under load: thirty speakers on a started server, each at the pace of speech."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.server_process import Server, started
from tests.service_kit import PATIENCE_S, wav_bytes
from tests.stream_kit import LOUD, sound

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

NUM_SPEAKERS = 30
PACKET_S = 0.1
TALK_S = 1.5
PAUSE_S = 1.0
GRACE_S = 15
# What a speaker had sent when the signal came and the server had not read yet.
IN_FLIGHT_S = 1.0
SPEECH = sound((0.3, 0.0), (TALK_S, LOUD), (PAUSE_S, 0.0), (30.0, LOUD))


@dataclass
class Speaker:
    """A client that speaks until its connection closes."""

    socket: ClientConnection
    sent_s: float = 0.0
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def speak(self) -> None:
        """Send at the pace of an absolute clock."""
        num_bytes = round(PACKET_S * 32_000)
        now_s = asyncio.get_running_loop().time
        started_s = now_s()
        try:
            for at in range(0, len(SPEECH), num_bytes):
                await asyncio.sleep(started_s + at / 32_000 - now_s())
                await self.socket.send(SPEECH[at : at + num_bytes])
                self.sent_s += PACKET_S
        except ConnectionClosed:
            return

    async def listen(self) -> None:
        """Read to the end."""
        try:
            async for text in self.socket:
                self.messages.append(json.loads(text))
        except ConnectionClosed:
            return

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]


async def speakers(server: Server, number: int = NUM_SPEAKERS) -> list[Speaker]:
    uri = f"ws://127.0.0.1:{server.port}/v1/stream?drop=0"
    return [
        Speaker(await connect(uri, compression=None, open_timeout=PATIENCE_S, ping_interval=None))
        for _ in range(number)
    ]


async def ask(server: Server, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    status, answer = await asyncio.to_thread(server.ask, method, path, body)
    return status, json.loads(answer)


async def not_ready(server: Server) -> tuple[int, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await ask(server, "GET", "/readyz"))[0] == HTTPStatus.OK:
            pass
    return answer


async def until(condition: Callable[[], object]) -> None:
    """Give the speakers room until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 thirty clients have no one event
            await asyncio.sleep(0.02)


async def until_all_spoke(talking: list[Speaker]) -> None:
    """Wait until each is in the middle of its second utterance."""
    await until(lambda: all(one.all("final") for one in talking))
    seen = [len(one.all("partial")) for one in talking]
    await until(
        lambda: all(len(one.all("partial")) > had for one, had in zip(talking, seen, strict=True))
    )


async def test_sigterm_under_thirty_live_streams_loses_no_accepted_second() -> None:
    with started(engine="fake", shutdown_grace_s=str(GRACE_S)) as server:
        talking = await speakers(server)
        async with asyncio.TaskGroup() as group:
            for one in talking:
                group.create_task(one.speak())
            reading = [group.create_task(one.listen()) for one in talking]
            await until_all_spoke(talking)

            sent_s = [one.sent_s for one in talking]
            server.terminate()
            signalled_s = time.monotonic()
            await asyncio.wait(reading)
            status = await asyncio.to_thread(server.process.wait, PATIENCE_S)
            took_s = time.monotonic() - signalled_s

    assert status == 0
    assert took_s < GRACE_S
    assert {one.socket.close_code for one in talking} == {1001}
    for one, before_s in zip(talking, sent_s, strict=True):
        last, done = one.all("final")[-1], one.all("done")[0]
        assert one.messages[-1] is done
        assert (last["reason"], done["reason"]) == ("drain", "drain")
        assert done["dropped_s"] == 0
        assert done["audio_s"] >= before_s - IN_FLIGHT_S
        # Everything that was accepted is in the final that the drain made.
        assert last["end"] == pytest.approx(done["audio_s"], abs=0.01)
        assert last["start"] < TALK_S + PAUSE_S + 0.5
        assert [message["seq"] for message in one.messages] == list(range(len(one.messages)))


async def test_a_drain_is_seen_before_it_is_felt() -> None:
    # Half a second of engine time for each second of speech, so that there is something to wait for.
    settings = {"shutdown_grace_s": str(GRACE_S), "fake_realtime_factor": "0.5"}
    with started(engine="fake", **settings) as server:
        (one,) = await speakers(server, 1)
        listening = asyncio.create_task(one.listen())
        await one.socket.send(SPEECH[: 32_000 * 8])
        await until(lambda: one.all("final"))
        server.terminate()
        await asyncio.to_thread(server.wait_for_line, "stopping: running requests have")
        ready = await ask(server, "GET", "/readyz")
        live = await ask(server, "GET", "/livez")
        file = await ask(server, "POST", "/transcribe", wav_bytes(1.0))
        (late,) = await speakers(server, 1)
        await late.listen()
        was_open = one.socket.close_code is None
        await listening

        assert await asyncio.to_thread(server.process.wait, PATIENCE_S) == 0
    assert (ready[0], ready[1]["reason"]) == (503, "draining")
    assert live[0] == HTTPStatus.OK
    assert (file[0], file[1]["error"]["code"]) == (503, "draining")
    assert (late.socket.close_code, late.messages[0]["code"]) == (1001, "draining")
    assert late.messages[0]["retry_after_ms"] >= 1000
    assert was_open
    assert one.socket.close_code == 1001
    assert one.all("done")[0]["reason"] == "drain"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_at_once(second: signal.Signals) -> None:
    # What is sent here would keep the engine busy for more than a minute.
    settings = {"shutdown_grace_s": "600", "fake_realtime_factor": "5", "early_refusal": "false"}
    with started(engine="fake", **settings) as server:
        talking = await speakers(server, 3)
        for one in talking:
            await one.socket.send(SPEECH[: 32_000 * 8])
        listening = [asyncio.create_task(one.listen()) for one in talking]
        await until(lambda: all(one.messages for one in talking))
        server.terminate()
        await asyncio.to_thread(server.wait_for_line, "stopping: running requests have")
        server.process.send_signal(second)
        signalled_s = time.monotonic()
        status = await asyncio.to_thread(server.process.wait, PATIENCE_S)
        took_s = time.monotonic() - signalled_s
        await asyncio.wait(listening)

    assert status == 0
    assert took_s < 10
    assert {one.socket.close_code for one in talking} == {1001}
    assert {one.messages[-1]["code"] for one in talking} == {"draining"}


async def test_one_stream_or_file_too_many_is_told_when_to_ask_again() -> None:
    with started(engine="fake", max_streams="3") as server:
        talking = await speakers(server, 3)
        for one in talking:
            await one.socket.send(SPEECH[:3_200])
        await asyncio.gather(*(one.socket.recv() for one in talking))
        ready = await not_ready(server)
        (late,) = await speakers(server, 1)
        await late.listen()
        for one in talking:
            await one.socket.close()

    assert ready[1]["reason"] == "saturated"
    assert late.socket.close_code == 1013
    assert (late.messages[0]["code"], late.messages[0]["fatal"]) == ("overloaded", True)
    assert late.messages[0]["retry_after_ms"] >= 1000
