"""Work that is given up when something else happens first."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from starlette.requests import Request

from service.errors import ClientGone

T = TypeVar("T")
Guard = Coroutine[Any, Any, NoReturn]  # Any: what a coroutine is sent and yields is asyncio's


async def unless(work: Coroutine[Any, Any, T], *guards: Guard) -> T:
    """Run work beside guards that can only end by raising; the first of all to end decides.

    Whatever is left is cancelled and waited for, so that nothing outlives the request.
    """
    working = asyncio.ensure_future(work)
    guarding = [asyncio.ensure_future(guard) for guard in guards]
    try:
        await asyncio.wait({working, *guarding}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            next(guard for guard in guarding if guard.done()).result()
        return working.result()
    finally:
        for task in (working, *guarding):
            task.cancel()
        await asyncio.gather(working, *guarding, return_exceptions=True)


async def until_gone(request: Request) -> NoReturn:
    """Wait for the client to disconnect; the request's body must have been read.

    Raises:
        ClientGone: it has.
    """
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientGone("the client left before its answer was ready")
