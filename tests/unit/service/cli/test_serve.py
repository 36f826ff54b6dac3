import asyncio

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.cli.serve import DrainingServer, serve
from service.engine.fake import FakeEngine
from service.errors import Draining, ModelUnusable
from service.scheduling.admission import Admission, Phase
from service.settings import Settings
from tests.service_kit import FakeClock, until


async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("nobody asks")


def server_of(admission: Admission, grace_s: float = 60.0) -> DrainingServer:
    return DrainingServer(uvicorn.Config(app, lifespan="off"), admission, grace_s)


def ready() -> Admission:
    admission = Admission(2, FakeClock())
    admission.loaded()
    return admission


async def test_the_first_signal_shuts_the_door_and_waits_for_those_inside() -> None:
    admission = ready()
    server = server_of(admission)
    with admission.enter():
        server.handle_exit(15, None)
        await until(lambda: admission.phase is Phase.DRAINING)
        await asyncio.sleep(0)
        assert not server.should_exit

    await until(lambda: server.should_exit)


async def test_a_second_signal_does_not_wait() -> None:
    admission = ready()
    server = server_of(admission)
    with admission.enter():
        server.handle_exit(15, None)
        server.handle_exit(15, None)

        with pytest.raises(Draining, match="the service is stopping"):
            await admission.until_cut_off()


async def test_the_grace_ends_the_wait() -> None:
    admission = ready()
    server = server_of(admission, grace_s=1e-3)
    with admission.enter():
        server.handle_exit(15, None)
        await until(lambda: server.should_exit)

        with pytest.raises(Draining, match="the service is stopping"):
            await admission.until_cut_off()


def test_a_model_that_cannot_be_loaded_ends_the_process_with_an_error() -> None:
    def fail() -> None:
        raise ModelUnusable("no such model")

    assert serve(Settings(port=0), FakeEngine(before_load=fail)) == 1
