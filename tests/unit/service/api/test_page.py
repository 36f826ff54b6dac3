import re
from collections.abc import AsyncGenerator

import httpx
import pytest
from fastapi import FastAPI

from service.api.page import PAGE_FOLDER, page_router, read_page

NAMES = sorted(read_page(PAGE_FOLDER))
SCRIPTS = [name for name in NAMES if name.endswith(".js")]
MAX_LINES = 400


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(page_router())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_the_page_is_html_under_a_policy_that_trusts_nobody_else(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/")

    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "microphone=(self)" in answer.headers["permissions-policy"]


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("main.js", "text/javascript; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_files_have_the_types_that_browsers_insist_on(
    client: httpx.AsyncClient, name: str, content_type: str
) -> None:
    answer = await client.get(f"/web/{name}")

    assert answer.headers["content-type"] == content_type
    assert answer.content == (PAGE_FOLDER / name).read_bytes()


async def test_a_file_that_the_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/web/main.js")

    known = await client.get("/web/main.js", headers={"If-None-Match": first.headers["etag"]})
    other = await client.get("/web/main.js", headers={"If-None-Match": '"x"'})

    assert (known.status_code, known.content) == (304, b"")
    assert other.status_code == 200


@pytest.mark.parametrize("name", ["page.py", "..%2Fapp.py", "%2e%2e%2fapp.py", "nothing.js"])
async def test_no_other_file_is_given_away(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/web/{name}")

    assert answer.status_code == 404


async def test_the_page_answers_head_requests_without_a_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/")

    assert (answer.status_code, answer.content) == (200, b"")


def text_of(name: str) -> str:
    return (PAGE_FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_loads_nothing_from_elsewhere(name: str) -> None:
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text_of(name)))

    assert addresses <= {"http://www.w3.org"}  # a name space, not an address


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".html")])
def test_markup_holds_no_code_and_no_style_that_the_policy_would_refuse(name: str) -> None:
    markup = text_of(name)

    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", markup)
    assert not re.search(r"<script(?![^>]*\ssrc=)", markup)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_the_page_names_is_there(name: str) -> None:
    named = re.findall(r'(?:from "|import\("|new URL\(")\./([\w.]+)"', text_of(name))
    named += re.findall(r'(?:href|src)="/web/([\w.]+)"', text_of(name))

    assert set(named) <= set(NAMES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_element_that_a_script_asks_for_is_on_the_page(name: str) -> None:
    ids = set(re.findall(r'\sid="([\w-]+)"', text_of("index.html")))

    assert set(re.findall(r'byId\("([\w-]+)"\)', text_of(name))) <= ids


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_page_fits_the_line_limit_of_all_modules(name: str) -> None:
    lines = text_of(name).splitlines()

    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 110 or name.endswith((".svg", ".html"))


def test_no_file_of_the_page_lies_unused() -> None:
    texts = {name: text_of(name) for name in NAMES}

    unused = [
        name
        for name in NAMES
        if name != "index.html"
        and not any(name in text for at, text in texts.items() if at != name)
    ]

    assert not unused


def colours() -> list[dict[str, str]]:
    """The custom properties of the light and of the dark scheme."""
    light, dark = re.findall(r":root \{(.*?)\}", text_of("page.css"), re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in (light, dark)]


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        *(
            (ink, paper)
            for ink in ("ink", "soft", "muted", "accent")
            for paper in ("paper", "raised")
        ),
        ("on-accent", "accent"),
        ("alarm", "paper"),
        ("alarm", "alarm-paper"),
        ("ink", "alarm-paper"),
        ("muted", "alarm-paper"),
    ],
)
def test_text_stands_out_from_its_paper(scheme: int, ink: str, paper: str) -> None:
    palette = colours()[scheme]

    lighter, darker = sorted((luminance(palette[ink]), luminance(palette[paper])), reverse=True)

    # WCAG 2.2, success criterion 1.4.3, level AA
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
