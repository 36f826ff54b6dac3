"""Streams that misbehave, and what becomes of the others; over real WebSockets, on the fake engine."""

import asyncio
import json
import socket

import pytest

from service.engine.fake import FakeEngine
from tests.service_kit import Turnstile, until
from tests.stream_kit import LOUD, Served, one_sentence, packets, serving, sound

SENTENCE = one_sentence()
UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def closed_with(app: Served, query: str) -> tuple[int | None, str]:
    client = await app.connect(query)
    code = await client.read_to_end()
    return code, client.all("error")[0].code


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("sample_rate=11025", "parameter_invalid"),
        ("encoding=opus", "parameter_invalid"),
        ("endpointing_ms=abc", "parameter_invalid"),
        ("endpointing_ms=1", "parameter_invalid"),
        ("unknown=1", "parameter_invalid"),
        ("drop=1", "drop_out_of_range"),
        ("drop=nan", "drop_out_of_range"),
        ("policy=unheard-of", "policy_unknown"),
        ("drop=0.5&max_drop=0.25", "depth_refused"),
    ],
)
async def test_bad_parameters_close_with_4400_and_a_stable_code(query: str, error: str) -> None:
    async with serving() as app:
        assert await closed_with(app, query) == (4400, error)


@pytest.mark.parametrize(
    "frame",
    [
        "no json",
        "[]",
        "{}",
        '{"type": "unheard-of"}',
        '{"type": "configure", "drop": 7}',
        '{"type": "configure", "surprise": 1}',
        '{"type": "configure", "policy": "unheard-of"}',
        '{"type": "marker"}',
        "[" * 5_000,
        "\x00",
    ],
)
async def test_text_of_no_use_is_answered_and_the_stream_goes_on(frame: str) -> None:
    async with serving() as app:
        client = await app.connect("drop=0")
        await client.send(frame)
        error = await client.read_until("error")
        await client.send(*packets(SENTENCE), {"type": "stop"})
        code = await client.read_to_end()

    assert not error.fatal
    assert client.text.startswith("alpha bravo")
    assert code == 1000


async def test_too_much_of_no_use_is_refused() -> None:
    async with serving() as app:
        client = await app.connect()
        await client.send(*["garbage"] * 101)
        code = await client.read_to_end()

    assert code == 1008
    assert client.all("error")[-1].code == "messages_refused"


async def test_markers_without_end_are_of_no_use() -> None:
    async with serving() as app:
        client = await app.connect()
        # Half a chunk of speech, which only more audio covers: every marker behind it waits.
        await client.send(*packets(sound((0.5, 0.0), (0.65, LOUD))))
        await client.send(*[{"type": "marker", "id": str(number)} for number in range(200)])
        error = await client.read_until("error")
        await client.send(*[{"type": "marker", "id": "another"}] * 101)

        assert error.code == "message_invalid"
        assert await client.read_to_end() == 1008


async def test_empty_frames_are_of_no_use_either() -> None:
    async with serving() as app:
        client = await app.connect()
        await client.send(*[b""] * 101)

        assert await client.read_to_end() == 1008


async def test_bytes_that_are_no_audio_are_noise_and_nothing_worse() -> None:
    async with serving() as app:
        garbage = await app.transcribe(json.dumps({"type": "stop"}).encode() * 999)
        other = await app.transcribe(SENTENCE)

    assert garbage.messages[-1].type == "done"
    assert other.text.startswith("alpha bravo")


async def test_a_frame_that_is_too_big_closes_with_1009() -> None:
    async with serving(max_frame_bytes=4_096) as app:
        client = await app.connect()
        await client.send(b"\x00" * 5_000)

        assert await client.read_to_end() == 1009


async def test_frames_before_the_handshake_is_over_are_no_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    given_up = {"dialect": "native", "close_reason": "client_too_slow"}
    async with serving(stream_first_message_s=1.0) as app:
        with socket.create_connection(("127.0.0.1", app.port)) as rude:
            rude.setblocking(False)
            await loop.sock_sendall(rude, UPGRADE + b"\x81\x80\x00\x00\x00\x00" * 1_000)
            await until(lambda: app.sample("asr_streams_total", **given_up))
        other = await app.transcribe(SENTENCE)

    assert other.text.startswith("alpha bravo")
    assert "a stream failed" not in caplog.text


async def test_a_client_that_is_killed_frees_its_place_and_hurts_nobody() -> None:
    async with serving(max_streams=2) as app:
        for _ in range(5):
            victim = await app.connect()
            await victim.send(*packets(sound((0.5, 0.0), (1.0, LOUD))))
            await victim.read_until("partial")
            victim.socket.transport.abort()
            await until(lambda: app.service.admission.streams.num_taken == 0)
        other = await app.transcribe(SENTENCE)
        gone = app.sample("asr_streams_total", dialect="native", close_reason="client_gone")

    assert other.text.startswith("alpha bravo")
    assert gone == 5


async def test_an_engine_step_that_raises_reaches_every_waiter_and_the_loop_lives_on() -> None:
    failing = True

    def fail(_inputs: object) -> None:
        if failing:
            raise ZeroDivisionError("secret detail")

    async with serving(FakeEngine(before_live_step=fail)) as app:
        clients = [await app.connect() for _ in range(3)]
        for client in clients:
            await client.send(*packets(SENTENCE))
        codes = [await client.read_to_end() for client in clients]
        failing = False
        after = await app.transcribe(SENTENCE)

    assert codes == [1011] * 3
    errors = [client.all("error")[0] for client in clients]
    assert {error.code for error in errors} == {"engine_failed"}
    assert all(error.fatal and "secret" not in error.message for error in errors)
    assert after.text.startswith("alpha bravo")


async def test_more_streams_than_places_are_refused_early_with_a_hint() -> None:
    async with serving(max_streams=2) as app:
        holders = [await app.connect() for _ in range(2)]
        late = await app.connect()
        for holder in holders:
            await holder.send(sound((0.1, 0.0)))
        await until(lambda: app.service.admission.streams.full)

        at_the_door = await closed_with(app, "")
        await late.send(sound((0.1, 0.0)))
        late_code = await late.read_to_end()

    assert at_the_door == (1013, "overloaded")
    assert late_code == 1013
    assert (late.all("error")[0].retry_after_ms or 0) >= 1_000
    assert app.sample("asr_admission_rejected_total", reason="overloaded") == 2


async def test_idle_sockets_take_no_place_and_end_with_4408() -> None:
    async with serving(max_streams=1, stream_first_message_s=1.0) as app:
        idle = [await app.connect() for _ in range(200)]
        speaker = await app.transcribe(SENTENCE)
        codes = {await client.read_to_end() for client in idle}

    assert speaker.text.startswith("alpha bravo")
    assert codes == {4408}


async def test_sockets_are_bounded_as_well() -> None:
    async with serving(max_stream_sockets=2) as app:
        for _ in range(2):
            await (await app.connect()).read()

        assert await closed_with(app, "") == (1013, "overloaded")


async def test_a_client_that_falls_silent_gets_its_final_and_1001() -> None:
    async with serving(stream_idle_s=0.5, stream_first_message_s=600) as app:
        client = await app.connect("drop=0")
        await client.send(*packets(sound((0.5, 0.0), (2.0, LOUD))))
        code = await client.read_to_end()

    assert code == 1001
    assert client.all("final")[-1].reason == "idle"
    assert client.all("done")[0].reason == "idle"


async def test_keepalives_keep_a_waiting_stream() -> None:
    async with serving(stream_idle_s=0.6) as app:
        client = await app.connect()
        for _ in range(5):
            await client.send({"type": "keepalive"})
            await asyncio.sleep(0.2)
        await client.send({"type": "stop"})

        assert await client.read_to_end() == 1000


async def test_a_reader_that_never_reads_is_closed_and_hurts_nobody() -> None:
    # A marker with a long name comes back whole: what is not read piles up at the server.
    text = json.dumps({"type": "marker", "id": "m" * 60}).encode()
    frame = bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
    loop = asyncio.get_running_loop()
    async with serving(stream_reader_s=0.3) as app:
        app.server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        with socket.create_connection(("127.0.0.1", app.port)) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            stuck.setblocking(False)
            await loop.sock_sendall(stuck, UPGRADE)
            assert (await loop.sock_recv(stuck, 12)).endswith(b"101")
            shouting = asyncio.create_task(loop.sock_sendall(stuck, frame * 20_000))
            other = await app.transcribe(SENTENCE)
            await until(
                lambda: app.sample(
                    "asr_streams_total", dialect="native", close_reason="client_too_slow"
                )
            )
            shouting.cancel()
            await asyncio.gather(shouting, return_exceptions=True)

    assert other.text.startswith("alpha bravo")


async def test_a_flood_is_held_to_its_speed_in_bounded_memory_and_hurts_nobody() -> None:
    # Real time is 32 kB a second: this is 50 s of sound as fast as the socket takes it.
    flood = sound((50.0, LOUD))
    async with serving(stream_burst_s=4.0, stream_max_speed=2.0) as app:
        flooder = await app.connect()
        flooding = asyncio.create_task(flooder.send(*packets(flood)))
        await flooder.read_until("partial")
        other = await app.transcribe(SENTENCE)
        heard_s = max(one.end for one in flooder.all("partial") + flooder.all("lag"))
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)

    assert other.text.startswith("alpha bravo")
    assert heard_s < 45.0


async def test_what_the_service_cannot_keep_up_with_is_dropped_and_announced() -> None:
    turnstile = Turnstile()

    def hold(inputs: object) -> None:
        turnstile(inputs, None)  # type: ignore[arg-type]

    engine = FakeEngine(before_live_step=hold)
    async with serving(engine, stream_buffer_s=1.2, stream_max_speed=10) as app:
        client = await app.connect()
        await client.send(*packets(sound((0.5, 0.0), (0.6, LOUD))))
        await turnstile.wait_for_step(1)
        for packet in packets(sound((2.2, LOUD))):
            await client.send(packet)
            await asyncio.sleep(0.02)
        turnstile.let_through(1000)
        await client.send(*packets(sound((1.0, 0.0))), {"type": "stop"})
        await client.read_to_end()

    (warning,) = client.all("warning")
    assert warning.code == "audio_dropped"
    assert 0.5 < warning.end - warning.start <= 2.2
    assert client.all("done")[0].dropped_s == pytest.approx(warning.end - warning.start, abs=0.01)
    assert client.all("done")[0].audio_s == pytest.approx(4.3, abs=0.01)


async def test_a_drain_flushes_finals_and_closes_with_1001() -> None:
    async with serving() as app:
        speaking = await app.connect("drop=0")
        await speaking.send(*packets(sound((0.5, 0.0), (1.8, LOUD))))
        await speaking.read_until("partial")
        silent = await app.connect()
        await silent.read()

        app.service.admission.drain()
        codes = [await speaking.read_to_end(), await silent.read_to_end()]
        await app.service.admission.drained()
        late = await closed_with(app, "")

    assert codes == [1001, 1001]
    assert speaking.all("final")[-1].reason == "drain"
    assert speaking.all("done")[0].reason == "drain"
    assert late == (1001, "draining")


async def test_a_stream_that_outlasts_the_grace_is_told_so() -> None:
    turnstile = Turnstile()

    def hold(inputs: object) -> None:
        turnstile(inputs, None)  # type: ignore[arg-type]

    async with serving(FakeEngine(before_live_step=hold)) as app:
        client = await app.connect()
        await client.send(*packets(SENTENCE))
        await turnstile.wait_for_step(1)

        app.service.admission.cut_off()
        code = await client.read_to_end()
        turnstile.let_through(100)

    assert code == 1001
    assert client.all("error")[0].code == "draining"


async def test_a_fault_of_ours_tells_the_client_nothing() -> None:
    class Broken(FakeEngine):
        def open_listener(self) -> object:  # type: ignore[override]
            raise ZeroDivisionError("secret detail")

    async with serving(Broken()) as app:
        client = await app.connect()
        code = await client.read_to_end()

    assert code == 1011
    assert client.all("error")[0].code == "internal_error"
    assert "secret" not in client.all("error")[0].message


async def test_no_query_and_no_words_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with serving() as app:
        await app.transcribe(SENTENCE, "drop=0.5&endpointing_ms=777")

    assert "a stream ended: stop" in caplog.text
    ours = [
        one.getMessage() for one in caplog.records if not one.name.startswith("websockets.client")
    ]
    assert not any("777" in line or "bravo" in line for line in ours)
