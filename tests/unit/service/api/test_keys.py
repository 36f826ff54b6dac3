import hashlib
import hmac

import pytest
from starlette.datastructures import Headers

from service.api.keys import Caller, Tier, new_key_line, read_keys, shown_key
from service.errors import SettingsInvalid

KEY = "a-key-that-is-long-enough"
OTHER = "another-key-of-good-length"


def test_a_key_finds_its_caller_and_no_other_does() -> None:
    ring = read_keys([f"web:standard:{KEY}", f"call-centre:priority:{OTHER}"])

    assert ring.find(KEY) == Caller("web", Tier.STANDARD)
    assert ring.find(OTHER) == Caller("call-centre", Tier.PRIORITY)
    for wrong in ("", KEY[:-1], KEY + "x", KEY.upper(), "\udcff", "x" * 10_000):
        assert ring.find(wrong) is None


def test_a_digest_stands_for_its_key() -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()

    assert read_keys([f"web:standard:sha256={digest}"]).find(KEY) == Caller("web", Tier.STANDARD)


def test_empty_lines_and_comments_are_passed_over() -> None:
    assert len(read_keys(["", "  ", "# a comment", f" web:standard:{KEY} "])) == 1


@pytest.mark.parametrize(
    "line",
    [
        "web",
        f"web:{KEY}",
        f":standard:{KEY}",
        f"we b:standard:{KEY}",
        f"web:gold:{KEY}",
        "web:standard:",
        "web:standard:short",
        f"web:standard:{KEY} {KEY}",
        f"web:standard:{KEY},",
        f"web:standard:{'x' * 201}",
        "web:standard:sha256=abc",
        f"web:standard:sha256={'A' * 64}",
    ],
)
def test_a_line_that_is_not_like_the_others_is_refused_and_never_repeated(line: str) -> None:
    with pytest.raises(SettingsInvalid, match="expected key 1 to") as raised:
        read_keys([line])

    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    "second", [f"other:standard:{KEY}", f"web:priority:{OTHER}"], ids=["key", "name"]
)
def test_a_name_or_key_that_comes_again_is_refused(second: str) -> None:
    with pytest.raises(SettingsInvalid, match="each name and key once, got one again at 2"):
        read_keys([f"web:standard:{KEY}", second])


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = read_keys([f"name{number}:standard:{KEY}{number}" for number in range(5)])
    lengths: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    assert ring.find(f"{KEY}0") == Caller("name0", Tier.STANDARD)
    assert ring.find("x") is None

    assert lengths == [(32, 32)] * 10


def test_a_ring_shows_no_key() -> None:
    assert repr(read_keys([f"web:standard:{KEY}"])) == "KeyRing(1 keys)"


@pytest.mark.parametrize(
    "header",
    [
        {"X-API-Key": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY} "},
        {"Sec-WebSocket-Protocol": f"asr.v1, asr-key.{KEY}"},
        {"Sec-WebSocket-Protocol": f"asr-key.{KEY}"},
    ],
)
def test_a_key_is_shown_in_a_header_or_among_the_subprotocols(header: dict[str, str]) -> None:
    assert shown_key(Headers(header)) == KEY


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY} {KEY}"},
        {"Sec-WebSocket-Protocol": f"asr.v1, {KEY}"},
        {"Cookie": f"key={KEY}"},
    ],
)
def test_elsewhere_a_key_is_not_looked_for(header: dict[str, str]) -> None:
    assert shown_key(Headers(header)) is None


def test_a_new_key_comes_with_the_line_that_lets_it_in() -> None:
    key, line = new_key_line("web", Tier.PRIORITY)

    assert read_keys([line]).find(key) == Caller("web", Tier.PRIORITY)
    assert key not in line
    assert new_key_line("web", Tier.PRIORITY)[0] != key


def test_nobody_has_a_name_that_no_line_can_hold() -> None:
    with pytest.raises(SettingsInvalid, match="expected key 1 to"):
        new_key_line("a:b", Tier.STANDARD)
