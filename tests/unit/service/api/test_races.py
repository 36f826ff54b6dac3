import asyncio
from typing import NoReturn

import pytest

from service.api.races import unless
from service.errors import AudioEmpty, ClientGone, Draining


async def never() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError("expected to be cancelled")


async def gone() -> NoReturn:
    raise ClientGone("left")


async def test_work_that_ends_first_gives_its_value() -> None:
    async def work() -> str:
        return "done"

    assert await unless(work(), never(), never()) == "done"


async def test_work_that_fails_first_raises_its_own_error() -> None:
    async def work() -> str:
        raise AudioEmpty("nothing")

    with pytest.raises(AudioEmpty):
        await unless(work(), never())


async def test_a_guard_that_ends_first_has_the_work_cancelled_and_cleaned_up() -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await never()
        finally:
            cleaned.append("work")

    with pytest.raises(ClientGone):
        await unless(work(), never(), gone())

    assert cleaned == ["work"]


async def test_being_cancelled_cancels_the_work() -> None:
    outer = asyncio.create_task(unless(never(), never()))
    await asyncio.sleep(0)

    outer.cancel()

    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_of_guards_that_end_together_one_is_heard() -> None:
    async def draining() -> NoReturn:
        raise Draining("stopping", retry_after_s=1)

    with pytest.raises((ClientGone, Draining)):
        await unless(never(), gone(), draining())
