"""Uploads that mean harm, on the fake engine."""

import asyncio
import sys
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.service_kit import Running, running, until, wav_bytes

MEBIBYTE = 1024 * 1024


async def healthy(app: Running) -> bool:
    answer = await app.transcribe("format=text", wav_bytes(1.0))
    return answer.text == "alpha bravo\n"


class Flood:
    """Chunks without end, counted as they are taken."""

    def __init__(self) -> None:
        self.num_taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.num_taken += 1
            yield bytes(64 * 1024)


async def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    async with running(max_upload_bytes=1000) as app:
        request = app.open_request("/transcribe", {"Content-Length": "1001"})
        await request.answered()
        assert (request.status, request.code) == (413, "upload_too_large")
        assert request.num_taken == 0

        assert request.answer_headers["connection"] == "close"
        request.disconnect()
        await request.ended()


async def test_a_body_without_a_length_is_refused_where_it_passes_the_cap_in_flat_memory() -> None:
    flood = Flood()
    async with running(max_upload_bytes=4 * MEBIBYTE) as app:
        await healthy(app)
        tracemalloc.start()
        request = app.open_request("/transcribe", {"Transfer-Encoding": "chunked"})
        async for chunk in flood:
            request.send(chunk)
            await asyncio.sleep(0)
            if request.status is not None:
                break
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert (request.status, request.code) == (413, "upload_too_large")
        assert flood.num_taken <= 4 * 16 + 10  # of 64 KiB; some are on their way
        assert peak_bytes < 10 * MEBIBYTE
        request.disconnect()
        await request.ended()
        assert len((await app.transcribe("format=text", wav_bytes(4.0))).text.split()) == 8


async def test_a_refused_sender_may_finish_so_that_it_reads_its_answer() -> None:
    async with running(max_upload_bytes=10) as app:
        request = app.open_request("/transcribe")
        request.send(b"x" * 11)
        await request.answered()
        assert not request.task.done()

        request.send(b"x" * 100, more=False)
        await request.ended()

        assert request.num_taken == 2


async def test_a_body_that_stalls_is_answered_408() -> None:
    async with running(upload_grace_s=1e-3, upload_min_bytes_per_s=1e9) as app:
        request = app.open_request("/transcribe")
        request.send(b"R")
        await request.answered()

        assert (request.status, request.code) == (408, "upload_too_slow")
        request.disconnect()
        await request.ended()


async def test_uploads_that_stall_take_no_place_from_others() -> None:
    async with running(max_requests=1) as app:
        stalled = [app.open_request("/transcribe") for _ in range(50)]
        for request in stalled:
            request.send(b"R")
        await until(lambda: all(request.num_taken for request in stalled))

        assert await healthy(app)

        for request in stalled:
            request.disconnect()
        await asyncio.gather(*(request.ended() for request in stalled))
        assert app.sample("asr_requests_total", endpoint="transcribe", outcome="cancelled") == 50


async def test_uploads_together_hold_no_more_than_their_memory() -> None:
    async with running(max_upload_memory_bytes=100_000) as app:
        holding = app.open_request("/transcribe")
        holding.send(wav_bytes(2.0))
        await until(lambda: holding.num_taken)

        refused = await app.transcribe("", wav_bytes(2.0))

        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upload_memory_full")
        assert int(refused.headers["Retry-After"]) > 0
        holding.send(b"", more=False)
        await holding.ended()
        assert holding.status == 200
        assert await healthy(app)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"\0", 415, "audio_undecodable"),
        (b"<html>not audio</html>" * 100, 415, "audio_undecodable"),
        (wav_bytes(0.0), 422, "audio_empty"),
        (wav_bytes(20.0)[:300_000], 422, "audio_truncated"),
        (wav_bytes(1.0, rate_hz=2_000_000), 415, "audio_format_unsupported"),
        (wav_bytes(130.0), 413, "audio_too_long"),
    ],
)
async def test_what_is_no_usable_audio_is_refused_and_the_next_request_unhurt(
    content: bytes, status: int, code: str
) -> None:
    async with running(max_audio_s=120.0) as app:
        answer = await app.transcribe("", content)

        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert app.sample("asr_decode_rejected_total", reason=code) == 1
        assert await healthy(app)


async def test_an_empty_body_is_refused() -> None:
    async with running() as app:
        raw = await app.client.post("/transcribe")
        part = await app.client.post("/transcribe", files={"file": ("a.wav", b"")})

    for answer in (raw, part):
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "audio_empty")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"A: b\r\n" * 10_000 + b"\r\nx\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nA: " + b"b" * MEBIBYTE),
    ],
)
async def test_a_broken_multipart_is_refused(content_type: str, body: bytes) -> None:
    async with running() as app:
        answer = await app.client.post(
            "/transcribe", content=body, headers={"Content-Type": content_type}
        )

        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "upload_malformed")
        assert await healthy(app)


async def test_ten_thousand_parts_are_refused_at_the_second() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with running() as app:
        answer = await app.client.post("/transcribe", content=part * 10_000, headers=headers)

    assert answer.json()["error"]["message"].endswith("got a second")


class OpenedForWriting:
    """Files opened for writing and temporary names made, while it is on."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, details: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event.startswith("tempfile.") or (event == "open" and _writes(details)):
            self.found.append(f"{event} {details[0]}")


def _writes(details: tuple[Any, ...]) -> bool:
    mode = details[1]
    return isinstance(mode, str) and bool(set(mode) & set("wax+"))


async def test_no_upload_touches_the_disk() -> None:
    opened = OpenedForWriting()
    audio = wav_bytes(120.0)  # 3.8 MB: other parsers spool from 1 MB on
    async with running() as app:
        opened.on = True
        part = await app.client.post("/transcribe", files={"file": ("a.wav", audio)})
        raw = await app.transcribe("", audio)
        opened.on = False

    assert part.status_code == raw.status_code == 200
    assert not opened.found
