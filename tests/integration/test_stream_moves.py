"""Streams that are told to go on elsewhere, over real WebSockets: what a client sees."""

import asyncio

import pytest

from service.api.stream_connection import MOVE_S
from service.scheduling.moves import SETTLED_S
from tests.service_kit import until
from tests.stream_kit import LOUD, Client, Served, packets, serving, sound

SPEECH = sound((0.5, 0.0), (1.8, LOUD))


async def speaking(app: Served, query: str = "resumes=true") -> Client:
    """A client in the middle of an utterance."""
    client = await app.connect(f"drop=0&{query}")
    await client.send(*packets(SPEECH))
    await client.read_until("partial")
    return client


async def paused(client: Client) -> int | None:
    """Let the speaker pause, and speak on; give the code that the connection is closed with."""
    await client.send(*packets(sound((1.0, 0.0), (1.0, LOUD))))
    return await client.read_to_end()


async def test_a_stream_that_is_asked_to_move_ends_at_its_pause_and_nobody_else_does() -> None:
    async with serving() as app:
        moving = await speaking(app)
        staying = await app.connect("drop=0.75&resumes=true")
        await staying.send(*packets(SPEECH))
        await staying.read_until("partial")

        asked = app.service.ask_to_move(1)
        code = await paused(moving)
        await staying.send({"type": "stop"})
        other = await staying.read_to_end()

    (warning,), (done,) = moving.all("warning"), moving.all("done")
    assert (asked, code, other) == (1, 1001, 1000)
    assert (warning.code, warning.deadline_ms) == ("moving", MOVE_S * 1000)
    assert [final.reason for final in moving.all("final")] == ["endpoint"]
    assert (done.reason, done.end) == ("move", moving.all("final")[-1].end)
    assert done.end == pytest.approx(2.8, abs=0.1)
    assert app.sample("asr_streams_total", dialect="native", close_reason="move") == 1


async def test_where_it_comes_to_it_goes_on() -> None:
    async with serving() as here, serving() as there:
        client = await speaking(here)
        here.service.ask_to_move(1)
        await paused(client)
        done = client.all("done")[0]
        place = f"start_s={done.end}&utt={1}&seq={done.seq + 1}"

        again = await there.connect(f"drop=0&resumes=true&after=move&moved_s=0&{place}")
        await again.send(*packets(sound((0.5, 0.0), (1.0, LOUD), (1.0, 0.0))), {"type": "stop"})
        await again.read_to_end()
        moves = [
            there.sample("asr_stream_moves_total", reason=reason)
            for reason in ("drain", "move", "lost")
        ]

    (ready,), (final,) = again.all("ready"), again.all("final")
    assert (ready.seq, ready.start_s, ready.utt) == (done.seq + 1, done.end, 1)
    assert (final.utt, moves) == (1, [0, 1, 0])
    assert final.start == pytest.approx(done.end + 0.2, abs=0.1)
    assert final.words[0].start == final.start
    assert all(lag.end > done.end for lag in again.all("lag"))
    assert again.all("done")[0].end == pytest.approx(done.end + 2.5, abs=0.001)


@pytest.mark.parametrize(
    "query", ["", "resumes=true&moved_s=1", "resumes=true&after=lost&moved_s=0"]
)
async def test_who_cannot_go_on_or_has_moved_of_late_is_not_asked(query: str) -> None:
    async with serving() as app:
        client = await speaking(app, query)
        asked = app.service.ask_to_move(5)
        await client.send({"type": "stop"})
        code = await client.read_to_end()

    assert (asked, code) == (0, 1000)
    assert not client.all("warning")


async def test_who_moved_long_ago_is_asked_again_but_not_twice() -> None:
    async with serving() as app:
        await speaking(app, f"resumes=true&moved_s={SETTLED_S}")

        assert [app.service.ask_to_move(5), app.service.ask_to_move(5)] == [1, 0]


async def test_a_socket_that_has_said_nothing_is_not_asked() -> None:
    async with serving() as app:
        await (await app.connect("resumes=true")).read()

        assert app.service.ask_to_move(5) == 0


async def test_a_drain_lets_the_utterance_end() -> None:
    async with serving() as app:
        client = await speaking(app, "")
        app.service.admission.drain()
        await client.read_until("warning")
        code = await paused(client)

    (warning,), (final,), (done,) = (client.all(one) for one in ("warning", "final", "done"))
    assert (code, warning.code, final.reason, done.reason) == (
        1001,
        "draining",
        "endpoint",
        "drain",
    )
    assert 0 < warning.deadline_ms < app.server._grace_s * 1000
    assert final.end == done.end == pytest.approx(2.8, abs=0.1)


async def test_a_drain_waits_for_no_pause_beyond_its_deadline() -> None:
    async with serving(shutdown_grace_s=1.0) as app:
        client = await speaking(app, "")
        app.service.admission.drain()
        sending = asyncio.create_task(keep_speaking(client))
        code = await client.read_to_end()
        sending.cancel()

    (final,), (done,) = client.all("final"), client.all("done")
    assert client.all("warning")[0].deadline_ms == 500
    assert (code, final.reason, done.reason) == (1001, "drain", "drain")
    assert final.end == done.end >= 2.3


async def keep_speaking(client: Client) -> None:
    while True:
        await client.send(*packets(sound((0.1, LOUD))))
        await asyncio.sleep(0.1)


async def test_a_drain_hurries_a_stream_that_was_asked_to_move() -> None:
    async with serving(shutdown_grace_s=1.0) as app:
        client = await speaking(app)
        app.service.ask_to_move(1)
        await client.read_until("warning")
        app.service.admission.drain()
        sending = asyncio.create_task(keep_speaking(client))
        code = await client.read_to_end()
        sending.cancel()

    assert code == 1001
    assert [warning.code for warning in client.all("warning")] == ["moving", "draining"]
    assert client.all("done")[0].reason == "drain"


async def test_a_stream_that_has_been_told_to_stop_is_left_alone() -> None:
    async with serving() as app:
        client = await speaking(app)
        await client.send({"type": "stop"})
        await until(lambda: not any(one.can_move for one in app.service.moves._streams))

        assert app.service.ask_to_move(1) == 0
        assert await client.read_to_end() == 1000
