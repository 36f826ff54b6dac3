"""`POST /transcribe` as a client sees it, on the fake engine."""

import asyncio
import json

import pytest

from tests.service_kit import running, wav_bytes


async def test_the_answer_says_what_was_used_in_headers_and_json() -> None:
    async with running() as app:
        answer = await app.transcribe("drop=0.5", wav_bytes(10.0))

    assert answer.status_code == 200
    assert answer.headers["X-ASR-Layers"] == "4/8"
    assert answer.headers["X-ASR-Plan"] == "2,2,2,2,2,2,2,2"
    assert answer.headers["X-ASR-Drop"] == "0.5"
    assert answer.headers["X-ASR-Audio-Seconds"] == "10.000"
    assert answer.headers["Server-Timing"].startswith("upload;dur=")
    body = answer.json()
    assert body["text"].startswith("um bravo um delta")
    assert (body["layers"], body["layers_total"], body["drop"]) == (4.0, 8, 0.5)
    assert str(body["flops"]) == answer.headers["X-ASR-FLOPs"]
    assert str(body["encoder_flops"]) == answer.headers["X-ASR-Encoder-FLOPs"]


async def test_a_multipart_file_and_a_raw_body_give_the_same_words() -> None:
    audio = wav_bytes(3.0)
    async with running() as app:
        raw = await app.transcribe("", audio)
        part = await app.client.post("/transcribe", files={"file": ("a.wav", audio)})

    assert raw.json()["text"] == part.json()["text"] == "alpha bravo charlie delta echo foxtrot"


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("json", '{"text":"alpha bravo"'),
        ("text", "alpha bravo\n"),
        ("verbose_json", '{"text":"alpha bravo"'),
        ("srt", "1\n00:00:00,000 --> 00:00:01,000\nalpha bravo\n"),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nalpha bravo\n"),
    ],
)
async def test_every_format_is_written_and_carries_the_headers(form: str, start: str) -> None:
    async with running() as app:
        answer = await app.transcribe(f"format={form}", wav_bytes(1.0))

    assert answer.text.startswith(start)
    assert answer.headers["X-ASR-Layers"] == "8/8"


async def test_silence_gives_empty_text() -> None:
    async with running() as app:
        answer = await app.transcribe("", wav_bytes(10.0, peak=0.0))

    assert answer.status_code == 200
    assert answer.json()["text"] == ""
    assert answer.json()["flops"] == 0
    assert answer.headers["X-ASR-Audio-Seconds"] == "10.000"


@pytest.mark.parametrize(
    "drop", ["1", "-1", "abc", "nan", "inf", "", "1e9", "9" * 400, "auto ", "True", "0x1", "null"]
)
@pytest.mark.parametrize("name", ["drop", "max_drop"])
async def test_a_drop_out_of_range_is_refused_with_the_range(drop: str, name: str) -> None:
    async with running() as app:
        answer = await app.client.post("/transcribe", params={name: drop}, content=wav_bytes(1))

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "drop_out_of_range"
    assert "a number in [0, 1)" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("drop=0.75&max_drop=0.5", 422, "depth_refused"),
        ("drop=0.1&max_drop=0.2", 422, "depth_refused"),
        ("policy=nonsense", 422, "policy_unknown"),
        ("format=docx", 422, "parameter_invalid"),
        ("dorp=0.5", 422, "parameter_invalid"),
        ("model=whisper-1", 404, "model_not_served"),
    ],
)
async def test_what_is_not_on_offer_is_refused_before_the_upload_is_read(
    query: str, status: int, code: str
) -> None:
    async with running() as app:
        request = app.open_request(f"/transcribe?{query}")
        await request.answered()

    assert (request.status, request.code) == (status, code)
    assert request.num_taken == 0


async def test_max_drop_alone_leaves_full_depth() -> None:
    async with running() as app:
        answer = await app.transcribe("drop=auto&max_drop=0.5")

    assert answer.headers["X-ASR-Layers"] == "8/8"


async def test_an_alias_carries_the_drop() -> None:
    async with running() as app:
        aliases = [one["id"] for one in (await app.client.get("/v1/models")).json()["data"]]
        answer = await app.transcribe("model=fake-elastic-drop75")

    assert "fake-elastic-drop75" in aliases
    assert answer.headers["X-ASR-Layers"] == "2/8"


async def test_models_lists_the_depths_on_offer() -> None:
    async with running() as app:
        models = (await app.client.get("/v1/models")).json()

    assert models["object"] == "list"
    assert models["layers_total"] == 8
    assert [depth["layers"] for depth in models["depths"]] == [8, 4, 2, 1]
    assert models["policies"] == ["ladder", "skip"]
    assert models["takes_hotwords"] is True


async def test_many_files_at_once_each_get_their_own_words() -> None:
    async with running() as app:
        lengths_s = [1.0, 2.0, 9.0, 20.0, 3.0, 17.0]
        answers = await asyncio.gather(
            *(app.transcribe("format=text", wav_bytes(length_s)) for length_s in lengths_s)
        )

    assert [len(answer.text.split()) for answer in answers] == [2, 4, 18, 40, 6, 34]


async def test_openapi_describes_the_body_the_dial_and_gives_examples() -> None:
    async with running() as app:
        described = (await app.client.get("/openapi.json")).json()

    operation = described["paths"]["/transcribe"]["post"]
    assert "multipart/form-data" in operation["requestBody"]["content"]
    parameters = {one["name"]: one for one in operation["parameters"]}
    assert set(parameters) == {"drop", "max_drop", "policy", "hotwords", "format", "model"}
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert {"413", "415", "422", "503"} <= set(operation["responses"])
    async with running() as app:
        answer = await app.transcribe("drop=0.5")
    assert list(example) == list(json.loads(answer.text))
    assert list(example["timing_ms"]) == list(answer.json()["timing_ms"])


async def test_an_unknown_path_and_method_have_the_same_shape_of_answer() -> None:
    async with running() as app:
        missing = await app.client.get("/nothing")
        method = await app.client.get("/transcribe")

    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (method.status_code, method.json()["error"]["code"]) == (405, "method_not_allowed")
