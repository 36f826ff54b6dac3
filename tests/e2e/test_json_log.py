"""The log of a started server, as a program reads it."""

import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.e2e.server_process import Server, started
from tests.service_kit import PATIENCE_S, wav_bytes
from tests.stream_kit import one_sentence, packets

pytestmark = pytest.mark.e2e

KEY = "a-key-that-no-line-may-hold"
SPOKEN = ("alpha", "bravo")


def stream(server: Server, key: str) -> None:
    protocols = [Subprotocol("asr.v1"), Subprotocol(f"asr-key.{key}")]
    uri = f"ws://127.0.0.1:{server.port}/v1/stream?drop=0.5"
    with connect(uri, subprotocols=protocols, compression=None, open_timeout=PATIENCE_S) as client:
        try:
            for packet in packets(one_sentence()):
                client.send(packet)
            client.send(json.dumps({"type": "stop"}))
            while True:
                client.recv(timeout=PATIENCE_S)
        except ConnectionClosed:
            return


def test_every_line_is_an_object_and_none_holds_keys_or_words() -> None:
    keys = f"page:priority:{KEY}"
    with started(engine="fake", log_format="json", log_level="debug", api_keys=keys) as server:
        headers = {"X-API-Key": KEY, "X-Request-ID": "trace-7"}
        server.ask("POST", "/transcribe?drop=0.5", wav_bytes(2.0), headers)
        stream(server, KEY)
        stream(server, f"wrong-{KEY}")
        server.wait_for_line("a stream ended: unauthenticated")
        lines = list(server.lines)

    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert all({"time", "level", "logger", "message"} <= event.keys() for event in events)
    assert any(event["message"].startswith("settings: ") for event in events)
    requests = [event for event in events if "status" in event]
    (request,) = [event for event in requests if event["path"] == "/transcribe"]
    assert (request["request_id"], request["status"], request["path"], request["key_name"]) == (
        "trace-7",
        200,
        "/transcribe",
        "page",
    )
    assert {event["level"] for event in requests if event["path"] == "/readyz"} == {"debug"}
    ended = [event for event in events if "close_reason" in event]
    assert [event["close_reason"] for event in ended] == ["stop", "unauthenticated"]
    assert (ended[0]["layers"], ended[0]["key_name"]) == (4.0, "page")
    assert ended[0]["audio_s"] == pytest.approx(3.5, abs=0.01)
    assert "key_name" not in ended[1]
    text = "".join(lines)
    assert not [word for word in (KEY, "drop=", *SPOKEN) if word in text]
