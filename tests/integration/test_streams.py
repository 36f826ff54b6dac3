"""Streams over real WebSockets, on the fake engine: what a client sees."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from service.engine.base import ModelInfo
from service.engine.fake import FakeEngine
from tests.service_kit import until, wav_bytes
from tests.stream_kit import LOUD, one_sentence, packets, serving, sound

SENTENCE = one_sentence()


async def test_a_stream_from_ready_to_done() -> None:
    async with serving() as app:
        client = await app.connect("drop=0")
        ready = await client.read()
        await client.send(*packets(SENTENCE), {"type": "stop"})
        code = await client.read_to_end()

    assert ready.type == "ready"
    assert (ready.model, ready.layers, ready.protocol) == ("fake-elastic", 8.0, "1.1")
    assert client.all("final")[0].text.startswith("alpha bravo charlie delta")
    assert client.messages[-1].type == "done"
    assert code == 1000
    assert app.sample("asr_streams_total", dialect="native", close_reason="stop") == 1
    assert app.sample("asr_streams_active", dialect="native") == 0


async def test_sequence_numbers_rise_by_one() -> None:
    async with serving() as app:
        client = await app.transcribe(SENTENCE)

    assert [message.seq for message in client.messages] == list(range(len(client.messages)))


async def test_partials_come_while_the_speaker_speaks() -> None:
    async with serving() as app:
        client = await app.connect()
        await client.send(*packets(sound((0.5, 0.0), (1.5, LOUD))))

        partial = await client.read_until("partial")

    assert partial.utt == 0
    assert 0 <= partial.stable_chars <= len(partial.text)


@pytest.mark.parametrize(
    ("query", "rate_hz"),
    [(f"sample_rate={rate_hz}", rate_hz) for rate_hz in (8_000, 24_000, 44_100, 48_000)],
)
async def test_every_rate_gives_the_same_words(query: str, rate_hz: int) -> None:
    pcm = sound((0.5, 0.0), (2.0, LOUD), (1.0, 0.0), rate_hz=rate_hz)
    async with serving() as app:
        client = await app.transcribe(pcm, f"drop=0&{query}")

    assert client.text.startswith("alpha bravo charlie delta")


async def test_odd_packets_give_the_same_words() -> None:
    async with serving() as app:
        client = await app.connect("drop=0")
        await client.send(*packets(SENTENCE, 1_111), {"type": "stop"})
        await client.read_to_end()
        whole = await app.transcribe(SENTENCE)

    assert client.text == whole.text


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
async def test_telephone_encodings_are_heard(encoding: str) -> None:
    silence, loud = {"mulaw": (0xFF, 0x10), "alaw": (0xD5, 0x20)}[encoding]
    pcm = bytes([silence] * 4_000 + ([loud] * 8 + [loud ^ 0x80] * 8) * 1_000 + [silence] * 8_000)
    async with serving() as app:
        client = await app.transcribe(pcm, f"drop=0&encoding={encoding}&sample_rate=8000")

    assert client.text.startswith("alpha bravo charlie delta")


async def test_words_may_be_left_out() -> None:
    async with serving() as app:
        client = await app.transcribe(SENTENCE, "drop=0&words=false")

    assert client.all("final")[0].text
    assert client.all("final")[0].words == ()


async def test_the_final_says_what_was_used() -> None:
    async with serving() as app:
        client = await app.transcribe(SENTENCE, "drop=0.5")

    (final,) = client.all("final")
    assert (final.layers, final.drop) == (4.0, 0.5)
    assert final.plans[0][1] == (2,) * 8
    assert final.flops > 0
    assert client.all("done")[0].flops == final.flops
    assert final.end > final.words[-1].end >= final.start


async def test_configure_acts_on_the_running_stream() -> None:
    async with serving() as app:
        client = await app.connect("drop=0")
        await client.send(*packets(sound((0.5, 0.0), (1.5, LOUD))))
        await client.read_until("partial")
        await client.send({"type": "configure", "drop": 0.75})
        depth = await client.read_until("depth")
        await client.send(*packets(sound((1.5, LOUD), (1.0, 0.0))))
        final = await client.read_until("final")

    assert (depth.layers, depth.reason, depth.applies) == (2.0, "configure", "next_chunk")
    assert len(final.plans) == 2


async def test_configure_keeps_what_it_does_not_name() -> None:
    async with serving() as app:
        client = await app.connect("drop=0.5&policy=skip")
        await client.send({"type": "configure", "drop": 0.75})
        depth = await client.read_until("depth")

    assert depth.plan == (1, 1, 0, 0, 0, 0, 0, 0)


async def test_flush_and_marker() -> None:
    async with serving() as app:
        client = await app.connect()
        await client.send(*packets(sound((0.5, 0.0), (1.5, LOUD))), {"type": "flush"})
        await client.send({"type": "marker", "id": "m"})
        final = await client.read_until("final")
        marker = await client.read_until("marker")

    assert final.reason == "flush"
    assert marker.id == "m"


async def test_audio_after_stop_is_not_heard() -> None:
    async with serving() as app:
        client = await app.connect()
        await client.send(SENTENCE, {"type": "stop"}, SENTENCE)
        await client.read_to_end()

    assert len(client.all("final")) == 1


async def test_streams_side_by_side_do_not_mix() -> None:
    scenes = [sound((0.5, 0.0), (0.5 * n, LOUD), (1.0, 0.0)) for n in range(1, 9)]
    async with serving() as app:
        clients = await asyncio.gather(*(app.transcribe(scene) for scene in scenes))
        alone = [await app.transcribe(scene) for scene in scenes]
        batched = app.sample("asr_batch_size_count", depth="8")

    assert [client.text for client in clients] == [client.text for client in alone]
    assert batched


async def test_steps_are_shared_by_streams() -> None:
    sizes: list[int] = []
    engine = FakeEngine(
        realtime_factor=0.02, before_live_step=lambda inputs: sizes.append(len(inputs))
    )
    async with serving(engine) as app:
        await asyncio.gather(*(app.transcribe(SENTENCE) for _ in range(8)))

    assert max(sizes) >= 4


async def test_a_file_and_a_stream_share_the_engine() -> None:
    async with serving() as app:
        client = await app.connect("drop=0")
        await client.send(*packets(SENTENCE[:40_000]))
        async with httpx.AsyncClient() as http:
            url = f"http://127.0.0.1:{app.port}/transcribe?format=text"
            answer = await http.post(url, content=wav_bytes(20.0))
        await client.send(*packets(SENTENCE[40_000:]), {"type": "stop"})
        await client.read_to_end()

    assert len(answer.text.split()) == 40
    assert client.text.startswith("alpha bravo charlie delta")


async def test_beside_a_stream_a_file_takes_one_window_a_step() -> None:
    sizes: list[int] = []
    engine = FakeEngine(before_step=lambda windows, _plan: sizes.append(len(windows)))
    async with serving(engine, batch_windows=4) as app, httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{app.port}/transcribe?format=text"
        await http.post(url, content=wav_bytes(40.0))
        alone, sizes[:] = list(sizes), []
        client = await app.connect()
        await client.send(sound((0.1, 0.0)))
        await until(lambda: app.service.admission.streams.num_taken == 1)
        await http.post(url, content=wav_bytes(40.0))

    assert max(alone) == 4
    assert set(sizes) == {1}


async def test_readiness_says_when_no_stream_would_be_taken() -> None:
    async with serving(max_streams=1) as app, httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{app.port}/readyz"
        client = await app.connect()
        before = (await http.get(url)).status_code
        await client.send(sound((0.1, 0.0)))
        await until(lambda: app.service.admission.streams.full)
        answer = await http.get(url)
        of_an_orchestrator = await http.get(url, params={"saturated": "ok"})
        misspelt = await http.get(url, params={"saturated": "fine"})

    assert before == 200
    assert (answer.status_code, answer.json()["reason"]) == (503, "saturated")
    assert (of_an_orchestrator.status_code, misspelt.status_code) == (200, 422)


async def test_a_model_that_does_not_stream_says_so() -> None:
    class FilesOnly(FakeEngine):
        def load(self) -> ModelInfo:
            return replace(super().load(), chunk_s=0.0)

    async with serving(FilesOnly()) as app:
        client = await app.connect()
        code = await client.read_to_end()

    assert code == 4400
    assert client.all("error")[0].code == "streaming_unsupported"


async def test_the_asyncapi_document_names_every_message() -> None:
    async with serving() as app, httpx.AsyncClient() as http:
        document = (await http.get(f"http://127.0.0.1:{app.port}/v1/asyncapi.json")).json()

    assert document["asyncapi"] == "3.0.0"
    types = {
        schema["properties"]["type"]["const"]
        for name, schema in document["components"]["schemas"].items()
        if name.endswith("Message")
    }
    assert types == {
        *("ready", "partial", "final", "depth", "lag", "warning", "marker", "stats", "error"),
        *("done", "configure", "flush", "keepalive", "stop"),
    }


async def test_a_stream_is_active_from_its_first_audio_to_its_end() -> None:
    async with serving() as app:
        at_rest = app.sample("asr_streams_active", dialect="native")
        silent = await app.connect()
        client = await app.connect()
        await silent.read_until("ready")
        await client.read_until("ready")
        open_only = app.sample("asr_streams_active", dialect="native")
        await client.send(sound((0.1, 0.0)))
        await until(lambda: app.service.admission.streams.num_taken)
        speaking = app.sample("asr_streams_active", dialect="native")
        await client.send({"type": "stop"})
        await client.read_to_end()
        await until(lambda: app.sample("asr_streams_active", dialect="native") == 0)

    assert (at_rest, open_only, speaking) == (0, 0, 1)


async def test_a_stream_that_found_no_place_was_never_active() -> None:
    async with serving(max_streams=1) as app:
        first, second = await app.connect(), await app.connect()
        await first.send(sound((0.1, 0.0)))
        await until(lambda: app.service.admission.streams.num_taken)
        await second.send(sound((0.1, 0.0)))

        assert await second.read_to_end() == 1013
        assert app.sample("asr_streams_active", dialect="native") == 1


async def test_metrics_tell_of_streams() -> None:
    async with serving() as app:
        client = await app.connect("drop=0.5")
        await client.send(*packets(SENTENCE), {"type": "stop"})
        await client.read_to_end()

        assert app.sample("asr_stream_final_seconds_count") == 1
        assert app.sample("asr_stream_first_partial_seconds_count") == 1
        assert app.sample("asr_audio_seconds_total", endpoint="stream", depth="4")
        assert app.sample("asr_estimated_flops_total", depth="4") == client.all("final")[0].flops
        assert app.sample("asr_word_confidence_ratio_count", depth="4")
        await until(lambda: app.sample("asr_stream_state_bytes") == 0)
