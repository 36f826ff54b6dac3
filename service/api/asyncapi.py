"""The AsyncAPI document of `WS /v1/stream`, made of the classes that read and write its messages."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api import stream_messages as messages

FROM_SERVER: tuple[type[BaseModel], ...] = (
    messages.ReadyMessage,
    messages.PartialMessage,
    messages.FinalMessage,
    messages.DepthMessage,
    messages.LagMessage,
    messages.WarningMessage,
    messages.MarkerMessage,
    messages.StatsMessage,
    messages.ErrorMessage,
    messages.DoneMessage,
)
FROM_CLIENT: tuple[type[BaseModel], ...] = (
    messages.ConfigureMessage,
    messages.FlushMessage,
    messages.MarkMessage,
    messages.KeepaliveMessage,
    messages.StopMessage,
)
_DESCRIPTION = """Live audio in, captions out. Binary frames are audio in the encoding of the query,
cut anywhere; text frames are one JSON object each. Close codes: 1000 done, 1001 drain, move or idle,
1008 policy, 1009 frame too big, 1011 a fault of ours, 1013 overloaded or (depth_not_now) less depth
left by the load than was pinned, 4400 bad parameters, 4401 no valid key, 4408 too slow, 4429 too many
streams begun. Behind an error with retry_after_ms the same may be asked again after that time. A page
of another site, unless its origin is allowed, gets 403 and no handshake.

A stream that goes on elsewhere (since 1.1): sound is accepted up to `done.end`, or, where no `done`
came, up to the later of the last final's `end` and the last lag's `accepted`. All speech in it is in
exactly one final; what lies behind it was received at most, and is sent again over a connection with
`start_s` = that time, `utt` = the last final's plus one and `seq` = the last message's plus one."""
_HANDSHAKE: dict[str, Any] = {  # Any here: JSON, at the edge
    "type": "object",
    "properties": {
        "X-Request-ID": {
            "type": "string",
            "description": "An id of the client's for this stream; `ready` and log lines name it.",
        },
        "Sec-WebSocket-Protocol": {
            "type": "string",
            "description": "`asr.v1`, and for clients that can set no other header `asr-key.KEY`.",
            "examples": ["asr.v1, asr-key.KEY"],
        },
    },
}
_SECURITY: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Where the service has keys."},
    "header": {"type": "httpApiKey", "in": "header", "name": "X-API-Key"},
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": "`asr.v1, asr-key.KEY`, for browsers.",
    },
}
_REF = "#/components/schemas/"


def asyncapi_document() -> dict[str, object]:
    """Make the document, AsyncAPI 3.0."""
    models = (*FROM_SERVER, *FROM_CLIENT, messages.StreamQuery)
    _, schemas = models_json_schema(
        [(model, "serialization") for model in models], ref_template=_REF + "{model}"
    )
    names = [model.__name__ for model in (*FROM_SERVER, *FROM_CLIENT)]
    channel: dict[str, Any] = {  # Any: JSON, at the edge
        "address": "/v1/stream",
        "messages": {
            **{name: {"$ref": f"#/components/messages/{name}"} for name in names},
            "Audio": {"$ref": "#/components/messages/Audio"},
        },
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"$ref": _REF + "StreamQuery"},
                "headers": _HANDSHAKE,
            }
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "elastic-asr streams",
            "version": messages.PROTOCOL_VERSION,
            "description": _DESCRIPTION,
        },
        "channels": {"stream": channel},
        "operations": {
            "tell": _operation("send", [model.__name__ for model in FROM_SERVER]),
            "hear": _operation("receive", [*(model.__name__ for model in FROM_CLIENT), "Audio"]),
        },
        "components": {
            "messages": {
                **{name: _message(name) for name in names},
                "Audio": {"contentType": "application/octet-stream", "payload": {"type": "string"}},
            },
            "schemas": schemas["$defs"],
            "securitySchemes": _SECURITY,
        },
    }


def _message(name: str) -> dict[str, Any]:
    return {"contentType": "application/json", "payload": {"$ref": _REF + name}}


def _operation(action: str, names: list[str]) -> dict[str, Any]:
    references = [{"$ref": f"#/channels/stream/messages/{name}"} for name in names]
    return {
        "action": action,
        "channel": {"$ref": "#/channels/stream"},
        "messages": references,
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY],
    }
