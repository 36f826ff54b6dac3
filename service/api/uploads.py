"""Reading an upload: into memory, counted, at a decent rate, and no further than it may go."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from io import BytesIO

from starlette.requests import ClientDisconnect

from service.api.multipart import FilePartReader
from service.errors import ClientGone, UploadTooLarge, UploadTooSlow
from service.scheduling.admission import UploadLease


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """What an upload may be.

    Args:
        max_bytes: of the whole body, multipart framing included.
        grace_s: before the rate is judged.
        min_bytes_per_s: the rate that has to be kept after that, on the mean.
    """

    max_bytes: int
    grace_s: float
    min_bytes_per_s: float


async def read_upload(
    headers: Mapping[str, str],
    chunks: AsyncIterator[bytes],
    lease: UploadLease,
    limits: UploadLimits,
) -> BytesIO:
    """Read a body and give the file in it: the `file` part of a multipart, else the body itself.

    Args:
        headers: of the request, names in any case.
        chunks: the body as it arrives.
        lease: accounts for the bytes.
        limits: what the upload may be.

    Raises:
        UploadTooLarge: it has, or says it has, too many bytes.
        UploadTooSlow: it comes too slowly.
        UploadMalformed: it is a broken multipart.
        UploadMemoryFull: other uploads hold all the memory.
        ClientGone: the client went away.
    """
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.max_bytes:
        raise _too_large(limits)
    file = BytesIO()
    content_type = headers.get("content-type", "")
    multipart = (
        FilePartReader(content_type, file.write)
        if content_type.lower().startswith("multipart/")
        else None
    )
    feed = file.write if multipart is None else multipart.feed
    await _pump(chunks, feed, lease, limits)
    if multipart is not None:
        multipart.finish()
    file.seek(0)
    return file


async def _pump(
    chunks: AsyncIterator[bytes],
    feed: Callable[[bytes], object],
    lease: UploadLease,
    limits: UploadLimits,
) -> None:
    started_s = asyncio.get_running_loop().time()
    num_bytes = 0
    try:
        async with asyncio.timeout_at(started_s + limits.grace_s) as deadline:
            async for chunk in chunks:
                num_bytes += len(chunk)
                if num_bytes > limits.max_bytes:
                    raise _too_large(limits)
                lease.take(len(chunk))
                feed(chunk)
                allowed_s = limits.grace_s + num_bytes / limits.min_bytes_per_s
                deadline.reschedule(started_s + allowed_s)
    except TimeoutError as error:
        raise UploadTooSlow(
            f"expected at least {limits.min_bytes_per_s:g} bytes a second, got {num_bytes} in all"
        ) from error
    except ClientDisconnect as error:
        raise ClientGone("the client left while sending") from error


def _too_large(limits: UploadLimits) -> UploadTooLarge:
    return UploadTooLarge(f"expected at most {limits.max_bytes} bytes, got more")
