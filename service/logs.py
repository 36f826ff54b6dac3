"""How log lines look; set up once, by the command line.

Never in a log line: audio, transcripts, keys of a user, secrets, query strings.

A line is for people and its fields for programs: `extra=fields(status=200)` adds to the JSON form
what the sentence says already.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
LogFormat = Literal["text", "json"]

# Every task that answers a request has a context of its own, so that lines find their request.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
_FIELDS = "fields"


def configure_logs(level: str, form: LogFormat = "text") -> None:
    """Send everything at or above a level to stderr, one event a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def fields(**values: str | float | None) -> dict[str, dict[str, str | float | None]]:
    """Make the `extra` of a log call; what is None is left out of the line."""
    return {_FIELDS: {name: value for name, value in values.items() if value is not None}}


class TextFormatter(logging.Formatter):
    """One line for people, with the request it belongs to."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 the library's name
        """Write the line; a traceback follows it."""
        line, request_id = super().formatMessage(record), REQUEST_ID.get()
        return f"{line} [{request_id}]" if request_id else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the line."""
        event: dict[str, Any] = {  # Any: JSON, at the edge
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            event["request_id"] = request_id
        event |= getattr(record, _FIELDS, {})
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False)
