"""Hotwords as a client asks for them, on the fake engine: at half depth it misses every second word."""

from dataclasses import replace
from urllib.parse import unquote

import pytest

from service.engine.base import ModelInfo
from service.engine.fake import FakeEngine
from tests.service_kit import running, wav_bytes
from tests.stream_kit import LOUD, one_sentence, packets, serving, sound

SENTENCE = one_sentence()


class Deaf(FakeEngine):
    """An engine whose model takes no hotwords."""

    def load(self) -> ModelInfo:
        return replace(super().load(), takes_hotwords=False)


async def test_a_file_has_the_hotwords_that_were_nearly_heard() -> None:
    async with running() as app:
        plain = await app.transcribe("drop=0.5", wav_bytes(3.0))
        biased = await app.transcribe("drop=0.5&hotwords=Alpha,echo,zebra", wav_bytes(3.0))

    assert plain.json()["text"] == "um bravo um delta um foxtrot"
    assert biased.json()["text"] == "Alpha bravo um delta echo foxtrot"


async def test_confidence_stays_the_models_own() -> None:
    async with running() as app:
        query = "drop=0.5&format=verbose_json"
        plain = await app.transcribe(query, wav_bytes(3.0))
        biased = await app.transcribe(f"{query}&hotwords=alpha", wav_bytes(3.0))

    one, other = (answer.json()["words"][0] for answer in (plain, biased))
    assert (one["word"], other["word"]) == ("um", "alpha")
    assert one["confidence"] == other["confidence"]


@pytest.mark.parametrize("query", ["", "hotwords=", "hotwords=zebra", "hotwords=%20,%20"])
async def test_hotwords_that_nobody_says_change_nothing(query: str) -> None:
    async with running() as app:
        plain = await app.transcribe("drop=0.5", wav_bytes(3.0))
        biased = await app.transcribe(f"drop=0.5&{query}", wav_bytes(3.0))

    assert plain.json()["text"] == biased.json()["text"]
    assert plain.json()["flops"] == biased.json()["flops"]


@pytest.mark.parametrize(
    ("hotwords", "code"),
    [
        ("x" * 65, "hotword_invalid"),
        ("a%00b", "hotword_invalid"),
        ("a%0Ab", "hotword_invalid"),
        ("%F0%9F%99%82", "hotword_invalid"),
        (",".join(f"w{number}" for number in range(101)), "hotwords_too_many"),
        (",".join(f"{number:02}" + "x" * 60 for number in range(70)), "hotwords_too_many"),
    ],
)
async def test_what_cannot_be_taken_is_refused(hotwords: str, code: str) -> None:
    async with running() as app:
        answer = await app.transcribe(f"hotwords={hotwords}", wav_bytes(1.0))

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == code
    assert unquote(hotwords) not in answer.json()["error"]["message"]


async def test_a_model_that_takes_none_refuses_them() -> None:
    async with running(Deaf()) as app:
        answer = await app.transcribe("hotwords=alpha", wav_bytes(1.0))

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "hotwords_unsupported"


async def test_a_stream_has_the_hotwords_of_its_query() -> None:
    async with serving() as app:
        plain = await app.transcribe(SENTENCE, "drop=0.5")
        biased = await app.transcribe(SENTENCE, "drop=0.5&hotwords=Alpha,charlie")

    assert plain.text.startswith("um bravo um delta")
    assert biased.text.startswith("Alpha bravo charlie delta")


async def test_a_streams_hotwords_change_from_the_next_words_on() -> None:
    async with serving() as app:
        client = await app.connect("drop=0.5&hotwords=alpha")
        await client.send(*packets(sound((0.5, 0.0), (2.0, LOUD), (1.0, 0.0))), {"type": "flush"})
        first = await client.read_until("final")
        await client.send({"type": "configure", "hotwords": ["Charlie"]})
        await client.send(*packets(sound((2.0, LOUD), (1.0, 0.0))), {"type": "flush"})
        second = await client.read_until("final")
        await client.send({"type": "configure", "endpointing_ms": 400})
        await client.send(*packets(sound((2.0, LOUD), (1.0, 0.0))), {"type": "flush"})
        third = await client.read_until("final")
        await client.send({"type": "configure", "hotwords": []})
        await client.send(*packets(sound((2.0, LOUD), (1.0, 0.0))), {"type": "stop"})
        fourth = await client.read_until("final")

    assert first.text.startswith("alpha bravo um delta")
    assert second.text.startswith("um bravo Charlie delta")
    assert third.text.startswith("um bravo Charlie delta")
    assert fourth.text.startswith("um bravo um delta")


@pytest.mark.parametrize(
    ("query", "code"),
    [("x" * 65, "hotword_invalid"), ("a,b%0Ac", "hotword_invalid")],
)
async def test_a_stream_that_asks_for_too_much_is_closed(query: str, code: str) -> None:
    async with serving() as app:
        client = await app.connect(f"hotwords={query}")
        closed = await client.read_to_end()

    assert client.all("error")[0].code == code
    assert closed == 4400


@pytest.mark.parametrize(
    ("hotwords", "code"),
    [
        (["x" * 65], "hotword_invalid"),
        (["\u0000"], "hotword_invalid"),
        ([f"w{number}" for number in range(101)], "hotwords_too_many"),
        ("alpha", "message_invalid"),
        ([1], "message_invalid"),
    ],
)
async def test_a_change_that_cannot_be_taken_is_refused_and_the_stream_goes_on(
    hotwords: object, code: str
) -> None:
    async with serving() as app:
        client = await app.connect("drop=0.5&hotwords=alpha")
        await client.send({"type": "configure", "hotwords": hotwords})
        refused = await client.read_until("error")
        await client.send(*packets(SENTENCE), {"type": "stop"})
        await client.read_to_end()

    assert (refused.code, refused.fatal) == (code, False)
    assert client.text.startswith("alpha bravo um delta")


async def test_a_stream_of_a_model_that_takes_none_is_refused() -> None:
    async with serving(Deaf()) as app:
        client = await app.connect("hotwords=alpha")
        closed = await client.read_to_end()

    assert client.all("error")[0].code == "hotwords_unsupported"
    assert closed == 4400


async def test_neither_does_such_a_stream_take_them_later() -> None:
    async with serving(Deaf()) as app:
        client = await app.connect()
        await client.send({"type": "configure", "hotwords": ["alpha"]})
        refused = await client.read_until("error")

    assert (refused.code, refused.fatal) == ("hotwords_unsupported", False)


async def test_the_documents_describe_them() -> None:
    async with running() as app:
        openapi = (await app.client.get("/openapi.json")).json()
        asyncapi = (await app.client.get("/v1/asyncapi.json")).text

    parameters = openapi["paths"]["/transcribe"]["post"]["parameters"]
    (described,) = [one for one in parameters if one["name"] == "hotwords"]
    assert "between commas" in described["description"]
    assert asyncapi.count('"hotwords"') >= 2
