"""Spoken words from a microphone through Chromium and a started server onto the page."""

import re
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.e2e.browser import chromium, microphone_flags, opened, recorded, until
from tests.e2e.server_process import Server, started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with started(engine="fake") as server:
        yield server


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Generator[Page]:
    clip = recorded(tmp_path_factory.mktemp("clips") / "fox.wav", ASSETS / "fox.opus")
    with chromium() as launch:
        browser = launch(*microphone_flags(clip))
        yield browser.new_context(permissions=["microphone"]).new_page()


def test_spoken_words_become_captions_and_the_dial_acts_on_them(tab: Page, server: Server) -> None:
    with opened(tab, f"http://127.0.0.1:{server.port}/") as page:
        page.get_by_role("button", name="Microphone").click()
        expect(page.locator("#tentative .words")).to_contain_text("alpha")
        page.get_by_role("slider").fill("2")
        expect(page.locator("#layers .value")).to_have_text("4/8")
        expect(page.locator("#tentative .words")).to_contain_text("um")
        page.get_by_role("button", name="Stop").click()

        expect(page.get_by_role("log")).to_contain_text("alpha bravo")
        expect(page.locator("#status")).to_have_text("Ready")
        expect(page.locator("#tentative")).to_be_hidden()
        expect(page.locator("#flops .value")).to_have_text(re.compile(r"^\d\.\d\d$"))


def test_a_connection_that_breaks_costs_no_words(tab: Page, server: Server) -> None:
    routes: list[tuple[WebSocketRoute, WebSocketRoute]] = []

    def through(route: WebSocketRoute) -> None:
        routes.append((route, route.connect_to_server()))

    tab.route_web_socket("**/v1/stream?*", through)
    with opened(tab, f"http://127.0.0.1:{server.port}/") as page:
        page.get_by_role("button", name="Microphone").click()
        expect(page.locator("#tentative .words")).to_contain_text("bravo")
        to_page, to_server = routes[0]
        to_page.close(code=1011)
        to_server.close()
        expect(page.locator("#status")).to_have_text("Not connected")
        expect(page.locator("#status")).to_have_text("Listening")
        until(page, lambda: "charlie" in page.locator("main").inner_text())
        page.get_by_role("button", name="Stop").click()

        expect(page.locator("#status")).to_have_text("Ready")
        expect(page.get_by_role("log")).to_contain_text("alpha bravo charlie")
        assert "missing" not in page.get_by_role("log").inner_text()
