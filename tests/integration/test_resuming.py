"""The client that goes on, on real sockets in this process: moved, cut off and refused."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from service.cli.resume_state import Message, Missing
from service.cli.resuming import Patience, ResumingStream
from service.cli.stream import stream_url
from service.engine.base import DepthChoice
from tests.service_kit import until
from tests.stream_kit import Served, one_sentence, packets, serving

HASTE = Patience(spread_s=0.0, first_s=0.01, longest_s=0.05, give_up_s=5.0)
SENTENCE = one_sentence()
NUM_SENTENCES = 3


@dataclass
class Talk:
    """One speaker whose sentences are let go one by one, and what was written."""

    served: Served
    messages: list[Message] = field(default_factory=list[Message])
    missing: list[Missing] = field(default_factory=list[Missing])
    reasons: list[str] = field(default_factory=list[str])
    num_allowed: int = 0

    def __post_init__(self) -> None:
        server = f"http://127.0.0.1:{self.served.port}"
        self.stream = ResumingStream(
            stream_url(server, DepthChoice(0.0)), server, self, patience=HASTE
        )

    def tell(self, message: Message) -> None:
        self.messages.append(message)

    def miss(self, missing: Missing) -> None:
        self.missing.append(missing)

    def wait(self, reason: str) -> None:
        self.reasons.append(reason)

    def all(self, kind: str) -> list[Message]:
        return [message for message in self.messages if message["type"] == kind]

    async def sentences(self) -> AsyncGenerator[bytes]:
        for number in range(NUM_SENTENCES):
            await until(lambda number=number: self.num_allowed > number)
            for packet in packets(SENTENCE):
                yield packet

    async def written(self, num_finals: int) -> None:
        self.num_allowed = num_finals
        await until(lambda: len(self.all("final")) >= num_finals)

    def expect_whole(self) -> None:
        finals = self.all("final")
        assert [final["utt"] for final in finals] == list(range(NUM_SENTENCES))
        for number, final in enumerate(finals):
            assert final["text"].startswith("alpha bravo charlie delta")
            assert final["start"] == pytest.approx(3.5 * number + 0.2, abs=0.1)
            assert final["end"] == pytest.approx(3.5 * number + 3.0, abs=0.1)
        assert [one["seq"] for one in self.messages] == list(range(len(self.messages)))
        assert not self.missing


async def test_a_stream_that_is_moved_writes_what_it_would_have_written() -> None:
    async with serving() as app:
        talk = Talk(app)
        talking = asyncio.create_task(talk.stream.run(talk.sentences()))
        await talk.written(1)
        assert app.service.ask_to_move(1) == 1
        await until(lambda: len(talk.all("ready")) == 2)
        await talk.written(NUM_SENTENCES)
        assert app.service.ask_to_move(1) == 0
        await talking
        moved = app.sample("asr_stream_moves_total", reason="move")

    talk.expect_whole()
    assert moved == 1
    assert [done["reason"] for done in talk.all("done")] == ["move", "stop"]
    assert not talk.reasons


async def test_connections_that_break_cost_no_word() -> None:
    async with serving() as app:
        talk = Talk(app)
        talking = asyncio.create_task(talk.stream.run(talk.sentences()))
        for number in range(1, NUM_SENTENCES):
            await talk.written(number)
            for connection in list(app.server.server_state.connections):
                connection.transport.abort()
            await until(lambda number=number: len(talk.all("ready")) > number)
        await talk.written(NUM_SENTENCES)
        await talking
        lost = app.sample("asr_stream_moves_total", reason="lost")

    talk.expect_whole()
    assert lost == NUM_SENTENCES - 1
