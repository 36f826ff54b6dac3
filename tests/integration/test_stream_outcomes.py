"""Streams that come to nothing are requests as well: how they are counted."""

from collections.abc import Sequence
from typing import Any

import pytest

from service.engine.base import ListenInput, Samples
from service.engine.fake import FakeEngine
from tests.service_kit import until
from tests.stream_kit import Served, one_sentence, packets, serving, sound

SENTENCE = one_sentence()

REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "drop=7", "rejected"),
    ({"api_keys": "web:standard:key-of-a-test-that-is-long"}, "", "rejected"),
    ({"stream_first_message_s": 0.2}, "", "rejected"),
    ({"max_stream_sockets": 1}, "", "overloaded"),
]


@pytest.mark.parametrize(("settings", "query", "outcome"), REFUSALS)
async def test_a_refused_stream_is_a_request_with_an_outcome(
    settings: dict[str, Any], query: str, outcome: str
) -> None:
    async with serving(**settings) as app:
        if outcome == "overloaded":
            await (await app.connect()).read()
        client = await app.connect(query)
        await client.read_to_end()
        counted = outcomes(app)

    assert counted == {outcome: 1}


async def test_a_stream_whose_first_audio_finds_no_place_is_overloaded() -> None:
    async with serving(max_streams=1) as app:
        first, second = await app.connect(), await app.connect()
        await first.send(sound((0.1, 0.0)))
        await until(lambda: app.service.admission.streams.num_taken)
        await second.send(sound((0.1, 0.0)))
        await second.read_to_end()

        assert outcomes(app) == {"overloaded": 1}


async def test_streams_that_the_gate_fails_before_any_utterance_are_failed() -> None:
    class Deaf(FakeEngine):
        def listen(self, inputs: Sequence[ListenInput]) -> list[Samples]:
            raise ZeroDivisionError

    async with serving(Deaf()) as app:
        clients = [await app.connect() for _ in range(2)]
        for client in clients:
            await client.send(*packets(SENTENCE))
            await client.read_to_end()

        assert outcomes(app) == {"failed": 2}


async def test_an_utterance_that_the_engine_fails_is_counted_once() -> None:
    def fail(_inputs: object) -> None:
        raise ZeroDivisionError

    async with serving(FakeEngine(before_live_step=fail)) as app:
        client = await app.connect()
        await client.send(*packets(SENTENCE))
        await client.read_to_end()

        assert outcomes(app) == {"failed": 1}


async def test_a_fault_of_ours_is_a_failed_request() -> None:
    class Broken(FakeEngine):
        def open_listener(self) -> object:  # type: ignore[override]
            raise ZeroDivisionError

    async with serving(Broken()) as app:
        await (await app.connect()).read_to_end()

        assert outcomes(app) == {"failed": 1}


def outcomes(app: Served) -> dict[str, float]:
    """What requests of streams came to, so far."""
    kinds = ("ok", "rejected", "overloaded", "failed", "cancelled")
    counts = {
        kind: app.sample("asr_requests_total", endpoint="stream", outcome=kind) for kind in kinds
    }
    return {kind: count for kind, count in counts.items() if count}
