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
cut anywhere; text frames are one JSON object each. Close codes: 1000 done, 1001 drain or idle,
1008 policy, 1009 frame too big, 1011 a fault of ours, 1013 overloaded, 4400 bad parameters,
4401 not authorised, 4408 too slow, 4429 too many."""
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
        "bindings": {"ws": {"method": "GET", "query": {"$ref": _REF + "StreamQuery"}}},
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
        },
    }


def _message(name: str) -> dict[str, Any]:
    return {"contentType": "application/json", "payload": {"$ref": _REF + name}}


def _operation(action: str, names: list[str]) -> dict[str, Any]:
    references = [{"$ref": f"#/channels/stream/messages/{name}"} for name in names]
    return {"action": action, "channel": {"$ref": "#/channels/stream"}, "messages": references}
