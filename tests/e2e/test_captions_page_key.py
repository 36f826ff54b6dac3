"""The caption page before a server that asks for a key."""

from collections.abc import Callable, Generator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import PATIENCE_MS, opened
from tests.e2e.server_process import Server, started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

KEY = "a-key-for-the-page"


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with started(engine="fake", api_keys=f"page:standard:{KEY}") as server:
        yield server


@pytest.fixture
def page(launch: Callable[..., Browser], server: Server) -> Generator[Page]:
    flags = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    tab = launch(*flags).new_context(permissions=["microphone"]).new_page()
    with opened(tab, f"http://127.0.0.1:{server.port}/") as page:
        yield page


def give(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use").click()


def test_the_page_asks_for_a_key_until_it_is_the_right_one_and_then_captions(page: Page) -> None:
    urls: list[str] = []
    page.on("websocket", lambda socket: urls.append(socket.url))
    expect(page.locator("#status")).to_have_text("Needs a key")
    expect(page.get_by_role("button", name="Microphone")).to_be_disabled()

    give(page, "not-the-key-of-the-page")
    expect(page.get_by_label("API key")).to_be_visible()
    expect(page.locator("#status")).to_have_text("Needs a key")
    give(page, KEY)
    expect(page.locator("#status")).to_have_text("Ready")
    expect(page.get_by_label("API key")).to_be_hidden()
    page.get_by_role("button", name="Microphone").click()
    expect(page.locator("#status")).to_have_text("Listening", timeout=PATIENCE_MS)

    assert len(urls) == 1
    assert KEY not in urls[0]


def test_a_key_is_known_after_a_reload_and_asked_for_once_it_is_refused(page: Page) -> None:
    give(page, KEY)
    expect(page.locator("#status")).to_have_text("Ready")
    page.reload()
    expect(page.locator("#status")).to_have_text("Ready")

    # As if the operator had taken the key back while the page was open.
    page.evaluate("sessionStorage.setItem('asr-key', 'a-key-that-was-taken-back')")
    page.get_by_role("button", name="Microphone").click()

    expect(page.get_by_label("API key")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_role("alert")).to_contain_text("expected a valid API key")
    give(page, KEY)
    expect(page.locator("#status")).to_have_text("Ready")
    page.get_by_role("button", name="Microphone").click()
    expect(page.locator("#status")).to_have_text("Listening", timeout=PATIENCE_MS)


def test_what_cannot_be_a_key_is_not_sent(page: Page) -> None:
    give(page, "two words")

    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("document.getElementById('key-field').validationMessage")
