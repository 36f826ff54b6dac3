"""`asr settings`: the page of all settings, written from the class that reads them.

docs/settings.md is what this prints; a test says so when it no longer is.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.settings import CLIENT_KEY, PREFIX, Settings

HEAD = f"""# Settings

Written by `asr settings > docs/settings.md` from `service/settings.py`; do not edit it by hand.

Every setting is an environment variable, read once at the start. `asr serve` takes `--host`,
`--port`, `--engine` and `--model` as flags as well, which go before. A variable that begins with
`{PREFIX}` and is not below stops the start, so that no misspelt one is passed over. `{CLIENT_KEY}`
alone is for the other side: it holds the key that `asr stream` shows to a server.

| variable | what it sets | values | default |
|---|---|---|---|
"""
_TYPES: dict[object, str] = {
    bool: "true, false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret text",
}
_LIMITS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "min_length": "characters at least",
}


def settings_page() -> str:
    """Write the page."""
    rows = (
        f"| `{PREFIX}{name.upper()}` | {_cell(field.description or '')} | {_values(field)} "
        f"| {_default(field)} |"
        for name, field in Settings.model_fields.items()
    )
    return HEAD + "\n".join(rows) + "\n"


def _values(field: FieldInfo) -> str:
    kind = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    limits = ", ".join(_limits(field.metadata))
    return f"{_TYPES[kind]}, {limits}" if limits else _TYPES[kind]


def _without_none(annotation: object) -> object:
    kinds = [one for one in get_args(annotation) if one is not type(None)]
    is_optional = len(kinds) == 1 and get_origin(annotation) is not Literal
    return kinds[0] if is_optional else annotation


def _limits(metadata: Iterable[object]) -> Iterable[str]:
    # One object for each limit, from the library that pydantic keeps them in.
    for limit in metadata:
        for attribute, words in _LIMITS.items():
            if (value := getattr(limit, attribute, None)) is not None:
                yield f"{words} {value}"


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        # Made for each user; the one there is is a folder below the home folder.
        made: object = field.get_default(call_default_factory=True)
        assert isinstance(made, Path), "only folders have a default of their own for each user"
        return f"`~/{made.relative_to(Path.home()).as_posix()}`"
    if default is None or default == "":
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else _number(default)}`"


def _number(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
