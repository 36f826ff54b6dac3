"""API keys: who has one, how it is shown, and how it is looked up.

A key file has a line for each: `NAME:TIER:KEY`, or `NAME:TIER:sha256=DIGEST` so that the file holds
nothing to steal. Keys are long and random, so a plain digest is enough.

Keys never stand in a query: proxies and browsers keep those.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from starlette.datastructures import Headers

from service.errors import SettingsInvalid

KEY_SUBPROTOCOL = "asr-key."
"""Before the key, among the WebSocket's subprotocols: the one place where a browser can put it."""
DIGEST_PREFIX = "sha256="
MIN_KEY_CHARS = 16
MAX_KEY_CHARS = 200

# The characters that both a header and a subprotocol may hold.
_KEY = re.compile(rf"[A-Za-z0-9._~-]{{{MIN_KEY_CHARS},{MAX_KEY_CHARS}}}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}", re.ASCII)
_BEARER = re.compile(r"bearer +(?P<key>\S+) *", re.ASCII | re.IGNORECASE)


class Tier(Enum):
    """What a caller may do under load; see `service.api.tiers`."""

    STANDARD = "standard"
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks; the name is the operator's and may be logged."""

    name: str
    tier: Tier


ANYBODY = Caller("", Tier.PRIORITY)
"""Whoever asks where no keys are set: nobody is before anybody."""


class KeyRing:
    """All keys, as digests.

    Args:
        callers: by the SHA-256 digest of their key, so that no key stays in memory.
    """

    def __init__(self, callers: Sequence[tuple[bytes, Caller]]) -> None:
        self._callers = tuple(callers)

    def __len__(self) -> int:
        return len(self._callers)

    def __repr__(self) -> str:
        return f"KeyRing({len(self)} keys)"

    def find(self, key: str) -> Caller | None:
        """Give whose key it is; every key is compared, each in constant time."""
        digest, found = _digest(key), None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def read_keys(lines: Iterable[str]) -> KeyRing:
    """Read key lines; empty ones and those that begin with `#` are passed over.

    Raises:
        SettingsInvalid: a line is not like the others, or a name or key stands there twice.
    """
    callers: dict[bytes, Caller] = {}
    for number, line in enumerate(lines, 1):
        if (text := line.strip()) and not text.startswith("#"):
            digest, caller = _read_line(text, number)
            if digest in callers or caller.name in {one.name for one in callers.values()}:
                raise SettingsInvalid(f"expected each name and key once, got one again at {number}")
            callers[digest] = caller
    return KeyRing(tuple(callers.items()))


def shown_key(headers: Headers) -> str | None:
    """Give the key that a request shows, if any."""
    if key := headers.get("x-api-key"):
        return key
    if match := _BEARER.fullmatch(headers.get("authorization", "")):
        return match["key"]
    for offered in headers.getlist("sec-websocket-protocol"):
        for protocol in offered.split(","):
            if protocol.strip().startswith(KEY_SUBPROTOCOL):
                return protocol.strip().removeprefix(KEY_SUBPROTOCOL)
    return None


def new_key_line(name: str, tier: Tier) -> tuple[str, str]:
    """Make a key and the line that lets it in.

    Raises:
        SettingsInvalid: nobody may have that name.
    """
    key = secrets.token_urlsafe(32)
    line = f"{name}:{tier.value}:{DIGEST_PREFIX}{_digest(key).hex()}"
    _read_line(line, 1)
    return key, line


def _read_line(text: str, number: int) -> tuple[bytes, Caller]:
    # What a line holds is never repeated in a message: half of it is a secret.
    name, tier, key = [*text.split(":", 2), "", ""][:3]
    if not _NAME.fullmatch(name):
        raise SettingsInvalid(f"expected key {number} to begin with a name, got another thing")
    if tier not in (one.value for one in Tier):
        raise SettingsInvalid(f"expected key {number} to have the tier standard or priority")
    digest = key.removeprefix(DIGEST_PREFIX)
    if key.startswith(DIGEST_PREFIX) and _DIGEST.fullmatch(digest):
        return bytes.fromhex(digest), Caller(name, Tier(tier))
    if not _KEY.fullmatch(key):
        raise SettingsInvalid(
            f"expected key {number} to have {MIN_KEY_CHARS} to {MAX_KEY_CHARS} characters out of "
            f"A-Z a-z 0-9 . _ ~ - or to be {DIGEST_PREFIX} and 64 hexadecimal digits"
        )
    return _digest(key), Caller(name, Tier(tier))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
