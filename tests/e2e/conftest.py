"""The fake engine's server, and a Chromium whose microphone speaks a sentence, for a module each."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.e2e.browser import Wire, chromium, microphone_flags, opened, recorded
from tests.e2e.server_process import started

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    with started(engine="fake") as server:
        yield f"http://127.0.0.1:{server.port}/"


@pytest.fixture(scope="module")
def launch() -> Generator[Callable[..., Browser]]:
    with chromium() as launch:
        yield launch


@pytest.fixture(scope="module")
def profile(
    launch: Callable[..., Browser], tmp_path_factory: pytest.TempPathFactory
) -> BrowserContext:
    clip = recorded(tmp_path_factory.mktemp("clips") / "fox.wav", ASSETS / "fox.opus")
    return launch(*microphone_flags(clip)).new_context(permissions=["microphone"])


@pytest.fixture(scope="module")
def tab(profile: BrowserContext) -> Page:
    """One for all tests that leave nothing behind: a new one is a new process."""
    return profile.new_page()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def page(tab: Page, address: str, wire: Wire) -> Generator[Page]:
    wire.attach(tab)
    with opened(tab, address) as page:
        yield page
