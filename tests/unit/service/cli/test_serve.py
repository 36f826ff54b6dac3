import asyncio
import socket
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.cli.serve import (
    DrainingServer,
    check_tls,
    serve,
    warn_of_idle_reserve,
    warn_of_open_doors,
)
from service.engine.fake import FakeEngine
from service.errors import Draining, ModelUnusable, SettingsInvalid
from service.scheduling.admission import Admission, Phase
from service.settings import Settings
from tests.service_kit import FakeClock, until

KEYS = "web:standard:a-key-that-is-long-enough"


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


@pytest.mark.parametrize("taken", ["port", "metrics_port"])
def test_a_port_that_is_taken_ends_the_process_with_an_error(taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"port": 0, taken: other.getsockname()[1]}

        assert serve(Settings.model_validate(ports), FakeEngine()) == 1


async def test_a_server_that_was_told_to_stop_before_it_started_has_not_failed() -> None:
    server = server_of(ready())
    failed_before = server.never_started

    server.handle_exit(15, None)
    await until(lambda: server.should_exit)

    assert failed_before
    assert not server.never_started


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_a_certificate_that_cannot_be_used_is_said_to_be_so(content: str, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text(content, encoding="utf-8")
    settings = Settings(tls_certificate=tmp_path / "pem", tls_key=tmp_path / "pem")

    with pytest.raises(SettingsInvalid, match="expected a certificate"):
        check_tls(settings)


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({"host": "127.0.0.1"}, ""),
        ({"host": "0.0.0.0"}, "no API keys are set"),
        ({"host": "0.0.0.0", "api_keys": KEYS}, "keys come in unencrypted"),
        ({"host": "0.0.0.0", "api_keys": KEYS, "trusted_proxies": "10.0.0.1"}, ""),
    ],
)
def test_open_doors_are_said_to_be_open(
    settings: dict[str, str], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_open_doors(Settings.model_validate(settings))

    assert len(caplog.messages) == bool(warning)
    assert warning in caplog.text


@pytest.mark.parametrize(
    ("settings", "warns"),
    [
        ({}, False),
        ({"reserved_streams": "2"}, True),
        ({"reserved_streams": "2", "api_keys": KEYS}, False),
        ({"reserved_streams": "2", "api_keys_file": "keys"}, False),
    ],
)
def test_places_that_are_reserved_for_nobody_are_said_to_be_so(
    settings: dict[str, str], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_idle_reserve(Settings.model_validate(settings))

    assert ("reserved_streams=2 keeps nothing" in caplog.text) is warns


@pytest.mark.parametrize("content", [None, "", "# nothing but this\n", "web:standard:short"])
def test_a_key_file_that_lets_nobody_in_does_not_let_everybody_in(
    content: str | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "keys").write_text(content, encoding="utf-8")

    with pytest.raises(SettingsInvalid, match="expected"):
        serve(Settings(port=0, api_keys_file=tmp_path / "keys"), FakeEngine())
