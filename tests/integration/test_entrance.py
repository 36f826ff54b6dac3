"""Who may come in: keys, tiers, foreign pages, limits; over real sockets, on the fake engine."""

import logging
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import BaseRoute
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.typing import Subprotocol

from service.errors import DepthNotNow
from service.scheduling.load_control import LoadControl
from tests.service_kit import Running, running, until, wav_bytes
from tests.stream_kit import LOUD, Served, one_sentence, packets, serving, sound

KEY = "standard-key-of-a-test"
VIP = "priority-key-of-a-test"
KEYS = f"web:standard:{KEY}, call-centre:priority:{VIP}"
BEARER = {"Authorization": f"Bearer {KEY}"}
FOREIGN = {"Origin": "https://evil.example"}
OPEN = {
    "/",
    "/docs",
    "/docs/oauth2-redirect",
    "/livez",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/redoc",
    "/v1/asyncapi.json",
    "/web/{name}",
}


@pytest.fixture
async def app() -> AsyncGenerator[Running]:
    async with running(api_keys=KEYS) as app:
        yield app


def routes_of(app: Running | Served) -> Iterator[BaseRoute]:
    for route in app.service.app.routes:
        included = getattr(route, "original_router", None)  # how FastAPI keeps routers
        yield from [route] if included is None else included.routes


async def refused_with(app: Served, query: str = "", **options: Any) -> tuple[int | None, str]:
    client = await app.connect(query, **options)
    code = await client.read_to_end()
    return code, client.all("error")[0].code


def decide(app: Served | Running, drop: float) -> None:
    """Have `auto` mean a depth, as the controller does under load."""
    app.service.transcriber.decide = lambda: drop


async def test_no_path_is_open_but_those_that_are_named(app: Running) -> None:
    closed = [
        (method, route.path)
        for route in routes_of(app)
        if isinstance(route, APIRoute) and route.path not in OPEN
        for method in route.methods or ()
    ]
    answers = [await app.client.request(method, path) for method, path in closed]

    assert ("POST", "/transcribe") in closed
    assert [answer.status_code for answer in answers] == [401] * len(closed)
    assert {answer.json()["error"]["code"] for answer in answers} == {"unauthenticated"}
    assert all(answer.headers["WWW-Authenticate"].startswith("Bearer") for answer in answers)
    assert app.sample("asr_auth_failures_total") == len(closed)


async def test_every_websocket_asks_for_a_key() -> None:
    async with serving(api_keys=KEYS) as app:
        paths = [one.path for one in routes_of(app) if isinstance(one, APIWebSocketRoute)]
        codes: set[int | None] = set()
        for path in paths:
            async with connect(f"ws://127.0.0.1:{app.port}{path}", compression=None) as socket:
                with suppress(ConnectionClosedError):
                    async for _ in socket:
                        pass
                codes.add(socket.close_code)

    assert "/v1/stream" in paths
    assert codes == {4401}


@pytest.mark.parametrize("path", sorted(OPEN - {"/docs/oauth2-redirect", "/web/{name}"}))
async def test_what_is_open_stays_open(app: Running, path: str) -> None:
    assert (await app.client.get(path)).status_code == 200


async def test_the_page_is_open_so_that_it_can_ask_for_the_key(app: Running) -> None:
    assert (await app.client.get("/web/main.js")).status_code == 200


async def test_metrics_are_closed_where_the_operator_says_so() -> None:
    async with running(api_keys=KEYS, metrics_open=False) as app:
        without = await app.client.get("/metrics")
        with_key = await app.client.get("/metrics", headers=BEARER)

    assert (without.status_code, with_key.status_code) == (401, 200)


@pytest.mark.parametrize("headers", [BEARER, {"X-API-Key": KEY}])
async def test_a_key_lets_in(app: Running, headers: dict[str, str]) -> None:
    answer = await app.client.post("/transcribe", content=wav_bytes(1.0), headers=headers)

    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/transcribe", "/transcribe/", "//transcribe", "/v1/models"])
@pytest.mark.parametrize("key", ["wrong-key-of-a-test", KEY[:-1], "", "\u00fc"])
async def test_a_wrong_key_does_not_wherever_it_asks(app: Running, path: str, key: str) -> None:
    headers = {"X-API-Key": key.encode("latin-1")}
    answer = await app.client.request("POST", httpx.URL("http://test" + path), headers=headers)  # type: ignore[arg-type]

    assert answer.status_code == 401


async def test_without_keys_everybody_may_come_in() -> None:
    async with running() as app:
        assert (await app.transcribe("drop=0")).status_code == 200


async def test_a_stream_is_let_in_by_header_or_subprotocol_and_the_key_is_not_echoed() -> None:
    async with serving(api_keys=KEYS) as app:
        by_header = await app.connect(additional_headers=BEARER)
        await by_header.read_until("ready")
        offered = [Subprotocol("asr.v1"), Subprotocol(f"asr-key.{KEY}")]
        by_subprotocol = await app.connect(subprotocols=offered)
        await by_subprotocol.read_until("ready")

        assert by_subprotocol.socket.subprotocol == "asr.v1"
        assert await refused_with(app) == (4401, "unauthenticated")
        assert await refused_with(app, additional_headers={"X-API-Key": "x"}) == (
            4401,
            "unauthenticated",
        )
        assert app.sample("asr_auth_failures_total") == 2


async def test_a_key_in_the_query_is_not_taken() -> None:
    async with serving(api_keys=KEYS) as app:
        assert (await refused_with(app, f"token={KEY}"))[0] == 4401


async def test_no_key_in_any_log_line_and_the_name_in_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(api_keys=KEYS) as app:
        offered = [Subprotocol("asr.v1"), Subprotocol(f"asr-key.{KEY}")]
        client = await app.connect(subprotocols=offered)
        await client.send({"type": "stop"})
        await client.read_to_end()
        await refused_with(app, additional_headers={"X-API-Key": "wrong-key-of-a-test"})
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.port}") as http:
            await http.post("/transcribe", content=wav_bytes(1.0), headers=BEARER)

    ours = [one for one in caplog.records if not re.match(r"websockets\.client|http", one.name)]
    assert not [one for one in ours if KEY in one.getMessage() or "wrong-key" in one.getMessage()]
    named = [vars(one).get("fields", {}).get("key_name") for one in ours]
    assert [name for name in named if name] == ["web", "web"]


async def test_a_wrong_key_leaves_a_line_on_any_path(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    paths = ("/transcribe", "/v1/models", "/no/such/path", "/metrics")
    async with running(api_keys=KEYS, metrics_open=False) as app:
        for path in paths:
            await app.client.get(path, headers={"X-API-Key": "wrong-key-of-a-test"})

    lines = [one.getMessage() for one in caplog.records if one.name == "service.api.accounts"]
    assert [line.partition(" in ")[0] for line in lines] == [f"GET {path} -> 401" for path in paths]


async def test_under_load_full_depth_is_for_priority_keys_alone() -> None:
    async with serving(api_keys=KEYS) as app:
        decide(app, 0.5)
        web, vip = {"X-API-Key": KEY}, {"X-API-Key": VIP}
        for query in ("drop=0", "max_drop=0.25", "model=fake-elastic-drop0"):
            refused = await refused_with(app, query, additional_headers=web)
            assert refused == (1013, "depth_not_now")
        client = await app.connect("drop=0", additional_headers=vip)
        assert (await client.read_until("ready")).layers == 8
        client = await app.connect("drop=0.5", additional_headers=web)
        assert (await client.read_until("ready")).layers == 4

        assert app.sample("asr_admission_rejected_total", reason=DepthNotNow.code) == 3


async def test_a_running_stream_is_told_and_goes_on() -> None:
    async with serving(api_keys=KEYS) as app:
        client = await app.connect("drop=0.75", additional_headers={"X-API-Key": KEY})
        decide(app, 0.5)
        await client.send({"type": "configure", "drop": 0})
        error = await client.read_until("error")
        await client.send(*packets(one_sentence()), {"type": "stop"})
        code = await client.read_to_end()

    assert (error.code, error.fatal) == ("depth_not_now", False)
    assert error.retry_after_ms >= 1000
    assert code == 1000
    assert client.all("final")[0].layers == 2


async def test_a_stream_that_pinned_its_depth_before_the_load_keeps_it() -> None:
    async with serving(api_keys=KEYS) as app:
        client = await app.connect("drop=0", additional_headers={"X-API-Key": KEY})
        await client.read_until("ready")
        decide(app, 0.75)
        await client.send(*packets(one_sentence()), {"type": "stop"})
        await client.read_to_end()

    assert client.all("final")[0].layers == 8


async def test_a_file_at_full_depth_is_refused_under_load_before_it_is_read(app: Running) -> None:
    decide(app, 0.5)
    request = app.open_request("/transcribe?drop=0", BEARER)
    await request.answered()

    assert (request.status, request.code) == (503, "depth_not_now")
    assert int(request.answer_headers["retry-after"]) >= 1
    assert request.num_taken == 0
    request.disconnect()
    await request.ended()


async def test_the_last_places_of_streams_are_kept_for_priority_keys() -> None:
    async with serving(api_keys=KEYS, max_streams=2, reserved_streams=1) as app:
        web, vip = {"X-API-Key": KEY}, {"X-API-Key": VIP}
        early = await app.connect(additional_headers=web)
        late = await app.connect(additional_headers=web)
        await early.send(sound((0.1, 0.0)))
        await until(lambda: app.service.admission.streams.num_taken)
        await late.send(sound((0.1, 0.0)))

        assert await late.read_to_end() == 1013
        assert await refused_with(app, additional_headers=web) == (1013, "overloaded")
        client = await app.connect(additional_headers=vip)
        await client.send(*packets(one_sentence()), {"type": "stop"})
        assert await client.read_to_end() == 1000


@pytest.mark.parametrize("reserved", [1, 0])
async def test_a_door_that_foresees_no_room_behind_the_next_keeps_what_is_reserved(
    reserved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one stream more, and none for another behind it."""

    def refuses(_control: LoadControl, num_kept: int = 0) -> bool:
        return num_kept > 0

    monkeypatch.setattr(LoadControl, "refuses_streams", refuses)
    async with serving(api_keys=KEYS, max_streams=4, reserved_streams=reserved) as app:
        if reserved:
            assert await refused_with(app, additional_headers={"X-API-Key": KEY}) == (
                1013,
                "overloaded",
            )
            return
        client = await app.connect(additional_headers={"X-API-Key": KEY})
        await client.send(*packets(one_sentence()), {"type": "stop"})
        assert await client.read_to_end() == 1000


async def test_too_many_requests_are_answered_429_with_a_hint() -> None:
    async with running(rate_limit_per_minute=1, rate_limit_burst=2) as app:
        answers = [await app.transcribe() for _ in range(3)]
        probes = [await app.client.get(path) for path in ("/livez", "/readyz", "/metrics")]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "rate_limited"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    assert [probe.status_code for probe in probes] == [200] * 3
    assert app.sample("asr_admission_rejected_total", reason="rate_limited") == 1


async def test_a_key_is_limited_by_itself_wherever_it_asks_from() -> None:
    async with running(api_keys=KEYS, rate_limit_per_minute=1, rate_limit_burst=1) as app:
        asks = [("X-API-Key", KEY), ("X-API-Key", KEY), ("X-API-Key", VIP)]
        answers = [await app.client.get("/v1/models", headers=dict([one])) for one in asks]

    assert [answer.status_code for answer in answers] == [200, 429, 200]


async def test_wrong_keys_use_up_their_address_but_lock_out_no_right_key_behind_it() -> None:
    async with running(api_keys=KEYS, rate_limit_per_minute=1, rate_limit_burst=2) as app:
        guesses = [
            await app.client.get("/v1/models", headers={"X-API-Key": f"guess-number-{number}"})
            for number in range(4)
        ]
        known = await app.client.get("/v1/models", headers=BEARER)

    assert [answer.status_code for answer in guesses] == [401, 401, 429, 429]
    assert known.status_code == 200


async def test_too_many_streams_in_a_minute_close_with_4429_and_a_hint() -> None:
    async with serving(rate_limit_per_minute=1, rate_limit_burst=1) as app:
        await (await app.connect()).read_until("ready")
        second = await app.connect()
        code = await second.read_to_end()

    assert code == 4429
    (error,) = second.all("error")
    assert (error.code, error.fatal) == ("rate_limited", True)
    assert error.retry_after_ms >= 1000


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


async def test_openapi_says_which_operations_need_a_key(app: Running) -> None:
    document = (await app.client.get("/openapi.json")).json()

    needing = {path for path, operation in operations(document) if operation.get("security")}
    assert {"/transcribe", "/v1/models"} <= needing
    assert needing.isdisjoint(OPEN)
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}


async def test_openapi_asks_for_no_key_where_there_is_none() -> None:
    async with running() as app:
        document = (await app.client.get("/openapi.json")).json()

    assert not [path for path, operation in operations(document) if operation.get("security")]


async def test_a_stream_has_one_id_from_the_handshake_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as app:
        client = await app.connect("drop=0.5", additional_headers={"X-Request-ID": "trace-1"})
        ready = await client.read_until("ready")
        response = client.socket.response
        await client.send(*packets(sound((0.5, 0.0), (1.0, LOUD), (1.0, 0.0))), {"type": "stop"})
        await client.read_to_end()

    assert ready.request_id == "trace-1"
    assert response is not None
    assert response.headers["X-Request-ID"] == "trace-1"
    (line,) = [one for one in caplog.records if one.getMessage().startswith("a stream ended")]
    assert line.getMessage() == "a stream ended: stop after 2.5 s of audio at 4.00 layers"
    told = vars(line)["fields"]
    assert (told["dialect"], told["close_reason"]) == ("native", "stop")
    assert (told["audio_s"], told["layers"], told["utterances"]) == (2.5, 4.0, 1)


async def test_a_stream_is_named_a_model_as_a_file_is() -> None:
    async with serving() as app:
        client = await app.connect("model=fake-elastic-drop50")
        ready = await client.read_until("ready")
        unknown = await refused_with(app, "model=whisper-1")

    assert ready.layers == 4
    assert unknown == (4400, "model_not_served")
