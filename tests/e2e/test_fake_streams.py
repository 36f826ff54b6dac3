"""A started server on the fake engine and a WebSocket client of somebody else's."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.e2e.server_process import Server, started
from tests.service_kit import PATIENCE_S
from tests.stream_kit import LOUD, one_sentence, packets, sound

pytestmark = pytest.mark.e2e


def connected(server: Server, query: str = "drop=0") -> ClientConnection:
    uri = f"ws://127.0.0.1:{server.port}/v1/stream?{query}"
    return connect(uri, compression=None, open_timeout=PATIENCE_S)


def messages(client: ClientConnection) -> Iterator[dict[str, Any]]:
    """Give what is sent until the connection closes."""
    try:
        while True:
            yield json.loads(client.recv(timeout=PATIENCE_S))
    except ConnectionClosed:
        return


def test_captions_from_a_real_process() -> None:
    with started(engine="fake") as server, connected(server) as client:
        for packet in packets(one_sentence()):
            client.send(packet)
        client.send(json.dumps({"type": "stop"}))
        told = list(messages(client))
        _, metrics = server.ask("GET", "/metrics")

    assert [told[0]["type"], told[-1]["type"]] == ["ready", "done"]
    (final,) = [message for message in told if message["type"] == "final"]
    assert final["text"].startswith("alpha bravo charlie delta")
    assert any(message["type"] == "partial" for message in told)
    assert client.close_code == 1000
    assert b'asr_streams_total{close_reason="stop",dialect="native"} 1.0' in metrics


def test_sigterm_flushes_finals_and_the_process_ends_well() -> None:
    with started(engine="fake") as server, connected(server) as client:
        for packet in packets(sound((0.5, 0.0), (1.8, LOUD))):
            client.send(packet)
        told: list[dict[str, Any]] = []
        for message in messages(client):
            told.append(message)
            if message["type"] == "partial" and server.process.poll() is None:
                server.terminate()
                break
        told += messages(client)

        assert server.process.wait(PATIENCE_S) == 0
    assert [told[-1]["type"], told[-1]["reason"]] == ["done", "drain"]
    assert [message["reason"] for message in told if message["type"] == "final"] == ["drain"]
    assert client.close_code == 1001


def test_the_log_names_no_query_and_no_words() -> None:
    with started(engine="fake", log_level="debug") as server:
        with connected(server, "drop=0&endpointing_ms=777") as client:
            for packet in packets(one_sentence()):
                client.send(packet)
            client.send(json.dumps({"type": "stop"}))
            list(messages(client))
        server.terminate()
        server.process.wait(PATIENCE_S)
        server.wait_for_line("a stream ended: stop")
        lines: list[str] = []
        while not server.log.empty():
            lines.append(server.log.get())

    assert not [line for line in lines if "777" in line or "alpha" in line]
