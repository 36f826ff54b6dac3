import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from service.api.request_ids import RequestIds, accepted, request_id_of
from service.logs import REQUEST_ID


async def ask(header: bytes | None, kind: str = "http") -> tuple[str, dict[str, str]]:
    """Give the id that the app saw and the answer's headers."""
    seen: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        assert request_id_of(scope) == REQUEST_ID.get()
        seen.append(request_id_of(scope))
        await send({"type": "websocket.accept" if kind == "websocket" else "http.response.start"})

    async def keep(message: Message) -> None:
        sent.append(message)

    headers = [] if header is None else [(b"x-request-id", header)]
    scope: dict[str, Any] = {"type": kind, "headers": headers}
    await RequestIds(app)(scope, None, keep)  # type: ignore[arg-type]
    return seen[0], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_callers_id_goes_in_through_and_out(kind: str) -> None:
    seen, headers = await ask(b"7f4c-a1", kind)

    assert seen == headers["x-request-id"] == "7f4c-a1"


@pytest.mark.parametrize(
    "header", [None, b"", b"a b", b"a\nb", b"x" * 129, b"\xff", b'"', b"<script>", b"a;b", b"%0a"]
)
async def test_where_there_is_none_of_use_one_is_made(header: bytes | None) -> None:
    seen, headers = await ask(header)

    assert re.fullmatch(r"[0-9a-f]{32}", seen)
    assert headers["x-request-id"] == seen


async def test_two_requests_have_two_ids() -> None:
    assert (await ask(None))[0] != (await ask(None))[0]


@given(st.text(max_size=140))
def test_what_is_accepted_can_forge_no_header_and_no_line(given: str) -> None:
    if accepted(given) is not None:
        assert 1 <= len(given) <= 128
        assert given.isascii()
        assert given.isprintable()
        assert not set(given) & set(" \"'<>,;\\%")
