"""Pages of other origins: what they get, and what their refusal leaves in the log."""

from collections.abc import AsyncGenerator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from service.logs import TextFormatter
from tests.service_kit import Running, running, wav_bytes
from tests.stream_kit import serving

KEY = "standard-key-of-a-test"
KEYS = f"web:standard:{KEY}"
BEARER = {"Authorization": f"Bearer {KEY}"}
FOREIGN = {"Origin": "https://evil.example"}


@pytest.fixture
async def app() -> AsyncGenerator[Running]:
    async with running(api_keys=KEYS) as app:
        yield app


async def test_a_foreign_page_gets_no_stream_and_no_file_done(app: Running) -> None:
    answer = await app.client.post(
        "/transcribe", content=wav_bytes(1.0), headers={**BEARER, **FOREIGN}
    )
    own = {**BEARER, "Origin": "http://test"}
    ours = await app.client.post("/transcribe", content=wav_bytes(1.0), headers=own)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_refused")
    assert ours.status_code == 200


async def test_a_foreign_page_gets_no_handshake() -> None:
    async with serving() as app:
        with pytest.raises(InvalidStatus) as refused:
            await app.connect(additional_headers=FOREIGN)
        own = {"Origin": f"http://127.0.0.1:{app.port}"}
        client = await app.connect(additional_headers=own)
        await client.read_until("ready")

    assert refused.value.response.status_code == 403
    assert b"origin_refused" in (refused.value.response.body or b"")


@pytest.mark.parametrize(
    ("path", "headers", "num_rejected"), [("/v1/stream", FOREIGN, 1), ("/v1/no-such", {}, 0)]
)
async def test_a_websocket_without_a_handshake_leaves_one_line_with_its_id(
    path: str, headers: dict[str, str], num_rejected: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    caplog.handler.setFormatter(TextFormatter("%(message)s"))
    named = {**headers, "X-Request-ID": "of-a-test"}
    async with serving() as app:
        with pytest.raises(InvalidStatus):
            await connect(f"ws://127.0.0.1:{app.port}{path}", additional_headers=named)

        rejected = {"endpoint": "stream", "outcome": "rejected"}
        assert app.sample("asr_requests_total", **rejected) == num_rejected
        lines = [one for one in caplog.records if one.name == "service.api.accounts"]

    assert [one.getMessage().partition(" in ")[0] for one in lines] == [f"WS {path} -> 403"]
    assert vars(lines[0])["fields"]["client"] == "127.0.0.1"
    assert f"WS {path} -> 403" in caplog.text
    assert any("of-a-test" in line for line in caplog.text.splitlines() if path in line)


async def test_an_allowed_origin_gets_streams_and_cors_and_others_do_not() -> None:
    friend = {"Origin": "https://friend.example"}
    preflight = {"Access-Control-Request-Method": "POST"}
    asked = {"Access-Control-Request-Headers": "authorization"}
    async with serving(allowed_origins="https://friend.example", api_keys=KEYS) as app:
        offered = [Subprotocol("asr.v1"), Subprotocol(f"asr-key.{KEY}")]
        client = await app.connect(subprotocols=offered, additional_headers=friend)
        await client.read_until("ready")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.port}") as http:
            ok = await http.options("/transcribe", headers={**friend, **preflight, **asked})
            no = await http.options("/transcribe", headers={**FOREIGN, **preflight})
            answer = await http.get("/v1/models", headers={**friend, **BEARER})
            refused = await http.get("/v1/models", headers=friend)

    assert ok.headers["Access-Control-Allow-Origin"] == "https://friend.example"
    assert "authorization" in ok.headers["Access-Control-Allow-Headers"].lower()
    assert "Access-Control-Allow-Origin" not in no.headers
    assert "X-ASR-Layers" in answer.headers["Access-Control-Expose-Headers"]
    assert refused.status_code == 401
    # A page has to be able to read why it was refused.
    assert refused.headers["Access-Control-Allow-Origin"] == "https://friend.example"


async def test_cors_is_off_unless_asked_for() -> None:
    async with running() as app:
        answer = await app.client.get("/v1/models", headers=FOREIGN)

    assert "Access-Control-Allow-Origin" not in answer.headers
