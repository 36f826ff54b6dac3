"""What OpenAPI says about the body and the answers of `POST /transcribe`, by example."""

from typing import Any

_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}  # Any here: OpenAPI's JSON

_TEXT = "Ask not what your country can do for you."

_JSON_EXAMPLE: dict[str, Any] = {
    "text": _TEXT,
    "model": "moonshine-base-elastic",
    "layers": 4.0,
    "layers_total": 8,
    "plan": [2, 2, 2, 2, 2, 2, 2, 2],
    "drop": 0.5,
    "policy": "ladder",
    "flops": 18_200_000_000,
    "encoder_flops": 9_100_000_000,
    "audio_seconds": 3.12,
    "timing_ms": {
        "upload": 1.2,
        "audio": 4.0,
        "queue": 0.1,
        "encode": 30.5,
        "decode": 41.0,
        "total": 78.3,
    },
}

_SRT_EXAMPLE = f"1\n00:00:00,160 --> 00:00:03,040\n{_TEXT}\n"
_VTT_EXAMPLE = f"WEBVTT\n\n00:00:00.160 --> 00:00:03.040\n{_TEXT}\n"

BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": _BINARY},
            }
        },
        "application/octet-stream": {"schema": _BINARY},
        "audio/*": {"schema": _BINARY},
    },
}

_HEADERS: dict[str, str] = {
    "X-ASR-Layers": "Effective layers over all layers, as in `4/8`.",
    "X-ASR-Plan": "Stride of each layer, as in `2,2,2,2,2,2,2,2`; 0 is skipped.",
    "X-ASR-Drop": "Share of the depth that was given up.",
    "X-ASR-FLOPs": "Operations in all, estimated.",
    "X-ASR-Encoder-FLOPs": "Operations of front end and layers, estimated.",
    "X-ASR-Audio-Seconds": "Length of the audio.",
    "X-Request-ID": "The caller's, or one made for this request; log lines and errors name it.",
    "Server-Timing": "Milliseconds by stage: upload, audio, queue, encode, decode, total.",
}

_ERRORS: dict[int, tuple[str, str, str]] = {
    400: ("The multipart body is broken.", "upload_malformed", "expected a multipart body, ..."),
    401: (
        "No valid API key, where the service has keys.",
        "unauthenticated",
        "expected a valid API key, got none",
    ),
    403: (
        "A page of another site asks.",
        "origin_refused",
        "expected a page of this host or of an allowed origin, got another's",
    ),
    408: ("The body came too slowly.", "upload_too_slow", "expected at least 16000 bytes ..."),
    413: (
        "Too many bytes, or too long once decoded.",
        "audio_too_long",
        "expected at most 14400 s",
    ),
    415: ("Not audio that can be decoded.", "audio_undecodable", "expected audio, got ..."),
    422: (
        "A parameter or the audio's contents cannot be used.",
        "drop_out_of_range",
        "expected drop to be 'auto' or a number in [0, 1), got 'abc'",
    ),
    429: (
        "The key or address asks too often: try again after `Retry-After`.",
        "rate_limited",
        "expected fewer requests, got one too many",
    ),
    503: (
        "Loading, full, draining, or less depth left than pinned: ask again after `Retry-After`.",
        "overloaded",
        "expected ...",
    ),
}


_REQUEST_ID = "5f0c7a1e9b3d4c2f8a6e0d1b7c9f2a34"


def _error(description: str, code: str, message: str) -> dict[str, Any]:
    example = {"error": {"code": code, "message": message, "request_id": _REQUEST_ID}}
    return {"description": description, "content": {"application/json": {"example": example}}}


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The words, and in the headers what they cost.",
        "headers": {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        },
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": _JSON_EXAMPLE},
            "text/plain": {"schema": {"type": "string"}, "example": f"{_TEXT}\n"},
            "application/x-subrip": {"schema": {"type": "string"}, "example": _SRT_EXAMPLE},
            "text/vtt": {"schema": {"type": "string"}, "example": _VTT_EXAMPLE},
        },
    },
    **{status: _error(*parts) for status, parts in _ERRORS.items()},
}
