"""A stream over servers that come and go, on real sockets: no word is lost, none is said twice."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from service.cli.resume_state import Message, Missing
from service.cli.resuming import Patience, ResumingStream
from service.cli.sound import paced
from tests.e2e.server_process import Server, started
from tests.stream_kit import LOUD, packets, sound

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

RATE_HZ = 16_000
SENTENCES = 4
SPEECH_S, PAUSE_S = 1.5, 1.0
TALK = sound(*[(SPEECH_S, LOUD), (PAUSE_S, 0.0)] * SENTENCES)
HASTE = Patience(first_s=0.1, longest_s=0.5)


@dataclass
class Listener:
    """Keeps all that a stream tells."""

    messages: list[Message] = field(default_factory=list[Message])
    missing: list[Missing] = field(default_factory=list[Missing])
    num_waits: int = 0

    def tell(self, message: Message) -> None:
        self.messages.append(message)

    def miss(self, missing: Missing) -> None:
        self.missing.append(missing)

    def wait(self, reason: str) -> None:
        assert reason
        self.num_waits += 1

    def all(self, kind: str) -> list[Message]:
        return [message for message in self.messages if message["type"] == kind]


def url_of(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/stream?sample_rate=16000&drop=0"


async def spoken() -> AsyncGenerator[bytes]:
    """The talk at the pace of speech."""
    async for packet in paced(packets(TALK), asyncio.get_running_loop().time):
        yield packet


async def until_partial(listener: Listener, utterance: int) -> None:
    """Wait until an utterance is under way."""
    async with asyncio.timeout(30):
        while not any(one["utt"] == utterance for one in listener.all("partial")):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def expect_all_told_once(listener: Listener) -> None:
    finals = listener.all("final")
    assert [final["utt"] for final in finals] == list(range(SENTENCES))
    assert [one["seq"] for one in listener.messages] == list(range(len(listener.messages)))
    for number, final in enumerate(finals):
        begin_s = number * (SPEECH_S + PAUSE_S)
        assert final["start"] == pytest.approx(begin_s, abs=0.4)
        assert final["end"] >= begin_s + SPEECH_S
        # The fake engine's words stand for half seconds of an utterance's own sound.
        assert final["text"].startswith("alpha bravo charlie")
        assert final["words"][0]["start"] == pytest.approx(final["start"], abs=0.01)
    for earlier, later in pairwise(finals):
        assert later["start"] >= earlier["end"]
    assert not listener.missing
    assert listener.all("done")[-1]["end"] == pytest.approx(len(TALK) / 32_000, abs=0.001)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_stream_survives_its_server(end: signal.Signals) -> None:
    listener = Listener()
    with ExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, started(engine="fake"))
        stream = ResumingStream(url_of(server), "the server", listener, patience=HASTE)
        async with asyncio.TaskGroup() as group:
            talking = group.create_task(stream.run(spoken()))
            await until_partial(listener, 1)

            server.process.send_signal(end)
            await asyncio.to_thread(server.process.wait)
            again = started(None, server.port, engine="fake")
            server = await asyncio.to_thread(stack.enter_context, again)
            await talking
        metrics = await asyncio.to_thread(server.ask, "GET", "/metrics")

    expect_all_told_once(listener)
    first, second = listener.all("ready")
    # Told to stop, a server lets the sentence end; killed, it has its sound again from before it.
    cause = "drain" if end is signal.SIGTERM else "lost"
    assert f'asr_stream_moves_total{{reason="{cause}"}} 1.0'.encode() in metrics[1]
    assert first["start_s"] == 0
    assert second["utt"] == (2 if cause == "drain" else 1)
    if cause == "drain":
        (warning,) = listener.all("warning")
        assert (warning["code"], listener.all("done")[0]["reason"]) == ("draining", "drain")
        assert second["start_s"] == listener.all("done")[0]["end"]


async def test_a_stream_that_nobody_goes_on_with_ends_with_a_clear_error() -> None:
    listener = Listener()
    with started(engine="fake") as server:
        impatient = Patience(first_s=0.05, longest_s=0.1, give_up_s=0.5)
        stream = ResumingStream(url_of(server), "the server", listener, patience=impatient)
        talking = asyncio.create_task(stream.run(spoken()))
        await until_partial(listener, 0)
        server.process.kill()
        with pytest.RaisesGroup(pytest.RaisesExc(ConnectionError, match="no server went on")):
            await talking

    assert listener.num_waits == 1
    assert stream.kept.owed_s > 0
