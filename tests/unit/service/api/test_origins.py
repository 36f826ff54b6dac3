import pytest
from starlette.datastructures import Headers

from service.api.origins import Origins
from service.errors import OriginRefused

SOCKET = ""


def passes(origin: str | None, host: str, *allowed: str, method: str = SOCKET) -> bool:
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    try:
        Origins(allowed).check(method, Headers(headers))
    except OriginRefused:
        return False
    return True


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "captions.example.org"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://captions.example.org", "captions.example.org"),
        ("https://captions.example.org", "captions.example.org:443"),
        ("https://Captions.Example.org", "captions.example.ORG"),
    ],
)
def test_no_browser_and_the_own_page_may_come_in(origin: str | None, host: str) -> None:
    assert passes(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "captions.example.org"),
        ("https://captions.example.org.evil.example", "captions.example.org"),
        ("https://evilcaptions.example.org", "captions.example.org"),
        ("http://127.0.0.1:9000", "127.0.0.1:8000"),
        ("https://captions.example.org:8443", "captions.example.org"),
        ("null", "captions.example.org"),
        ("", "captions.example.org"),
        ("https://", ""),
        ("file://", ""),
        ("https://captions.example.org:port", "captions.example.org:port"),
        ("chrome-extension://abc", "abc"),
    ],
)
def test_a_page_of_another_site_may_not(origin: str, host: str) -> None:
    assert not passes(origin, host)
    assert not passes(origin, host, method="POST")


def test_a_page_may_always_read_what_cors_lets_it_read() -> None:
    assert passes("https://evil.example", "captions.example.org", method="GET")


def test_an_origin_that_is_allowed_may_come_in_and_its_neighbours_may_not() -> None:
    allowed = "https://Partner.example/"

    assert passes("https://partner.example", "captions.example.org", allowed)
    assert not passes("http://partner.example", "captions.example.org", allowed)
    assert not passes("https://a.partner.example", "captions.example.org", allowed)


def test_all_may_come_in_where_the_operator_says_so() -> None:
    assert passes("null", "captions.example.org", "*")
