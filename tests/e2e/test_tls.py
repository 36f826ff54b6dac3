"""A started server that speaks TLS by itself, with a certificate that the test makes."""

import asyncio
import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import connect

from tests.e2e.server_process import started
from tests.service_kit import PATIENCE_S, wav_bytes
from tests.stream_kit import one_sentence, packets

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """Trusts the test's certificates and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def settings(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "certificate.pem", append=True)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return {
        "tls_certificate": str(folder / "certificate.pem"),
        "tls_key": str(folder / "key.pem"),
    }


def test_files_and_streams_over_tls(tls: ssl.SSLContext, settings: dict[str, str]) -> None:
    with started(tls, engine="fake", **settings) as server:
        status, answer = server.ask("POST", "/transcribe", wav_bytes(2.0))
        version, told = asyncio.run(
            captioned(f"wss://127.0.0.1:{server.port}/v1/stream?drop=0", tls)
        )

        with server.open_socket() as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP/1.1 200")
        server.terminate()
        ended = server.process.wait(PATIENCE_S)

    assert status == 200
    assert json.loads(answer)["text"]
    assert [told[0]["type"], told[-1]["type"]] == ["ready", "done"]
    assert version in {"TLSv1.2", "TLSv1.3"}
    assert ended == 0


async def captioned(uri: str, tls: ssl.SSLContext) -> tuple[str | None, list[dict[str, Any]]]:
    """Stream a sentence; give TLS' version and what was told.

    Not by the client that reads in a thread: it reads and writes one TLS connection at the same time,
    which OpenSSL does not allow, and one handshake in hundreds is lost.
    """
    async with connect(uri, ssl=tls, compression=None, open_timeout=PATIENCE_S) as client:
        version = client.transport.get_extra_info("ssl_object").version()
        for packet in packets(one_sentence()):
            await client.send(packet)
        await client.send(json.dumps({"type": "stop"}))
        return version, [json.loads(text) async for text in client]


def test_asr_stream_speaks_tls_and_shows_its_key(
    tls: ssl.SSLContext, settings: dict[str, str], tmp_path: Path
) -> None:
    sound, key_file = tmp_path / "sound.wav", tmp_path / "key"
    sound.write_bytes(wav_bytes(1.0))
    key_file.write_text("a-key-for-the-command-line\n", encoding="utf-8")
    keys = {"api_keys": "cli:standard:a-key-for-the-command-line"}
    authority = Path(settings["tls_key"]).with_name("authority.pem")
    with started(tls, engine="fake", **settings, **keys) as server:
        command = [sys.executable, "-m", "service", "stream", str(sound)]
        command += ["--url", f"https://127.0.0.1:{server.port}", "--drop", "0"]
        environment = {"SSL_CERT_FILE": str(authority), "PATH": ""}
        with_key, without = (
            subprocess.run(
                [*command, *more],
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            for more in (["--key-file", str(key_file)], [])
        )

    assert (with_key.returncode, with_key.stderr) == (0, "")
    assert with_key.stdout.split()
    assert without.returncode == 1
    assert "unauthenticated" in without.stderr
