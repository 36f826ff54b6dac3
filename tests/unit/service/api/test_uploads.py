import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import ClientDisconnect

from service.api.uploads import UploadLimits, read_upload
from service.errors import ClientGone, UploadMemoryFull, UploadTooLarge, UploadTooSlow
from service.scheduling.admission import UploadMemory

LIMITS = UploadLimits(max_bytes=100, grace_s=60.0, min_bytes_per_s=1.0)


class Body:
    """Chunks that are counted as they are taken."""

    def __init__(self, *chunks: bytes, then: Exception | None = None, stall: bool = False) -> None:
        self._chunks = chunks
        self._then = then
        self._stall = stall
        self.num_taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.num_taken += 1
            yield chunk
        if self._then is not None:
            raise self._then
        if self._stall:
            await asyncio.Event().wait()


async def read(
    body: Body,
    headers: dict[str, str] | None = None,
    limits: UploadLimits = LIMITS,
    memory: UploadMemory | None = None,
) -> bytes:
    with (memory or UploadMemory(10_000)).lease() as lease:
        file = await read_upload(headers or {}, aiter(body), lease, limits)
        return file.read()


async def test_a_raw_body_is_the_file() -> None:
    assert await read(Body(b"one", b"", b"two")) == b"onetwo"


async def test_a_multipart_body_holds_the_file() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\naudio\r\n--b--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}

    assert await read(Body(body[:20], body[20:]), headers) == b"audio"


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    body = Body(b"x")

    with pytest.raises(UploadTooLarge, match="at most 100 bytes"):
        await read(body, {"content-length": "101"})

    assert body.num_taken == 0


async def test_a_body_that_turns_out_too_large_is_not_read_on() -> None:
    body = Body(*[b"x" * 40] * 10)

    with pytest.raises(UploadTooLarge):
        await read(body, {"content-length": "40"})

    assert body.num_taken == 3


async def test_a_length_that_is_no_number_changes_nothing() -> None:
    assert await read(Body(b"ok"), {"content-length": "many"}) == b"ok"


async def test_a_body_that_stalls_is_given_up() -> None:
    limits = UploadLimits(max_bytes=100, grace_s=1e-3, min_bytes_per_s=1e6)

    with pytest.raises(UploadTooSlow, match="at least 1e\\+06 bytes a second, got 2 in all"):
        await read(Body(b"ab", stall=True), limits=limits)


async def test_bytes_earn_time() -> None:
    limits = UploadLimits(max_bytes=100, grace_s=1e-9, min_bytes_per_s=1e-3)

    assert await read(Body(b"ab", b"cd"), limits=limits) == b"abcd"


async def test_a_client_that_leaves_is_gone() -> None:
    with pytest.raises(ClientGone):
        await read(Body(b"ab", then=ClientDisconnect()))


async def test_memory_is_held_while_reading_and_given_back_after() -> None:
    memory = UploadMemory(5)

    with pytest.raises(UploadMemoryFull):
        await read(Body(b"abc", b"def"), memory=memory)

    assert memory.used_bytes == 0
