"""A spoken sentence on the page, recognised by the shipped weights."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from model_store.text.wer import normalised_word_errors
from tests.e2e.browser import chromium, microphone_flags, opened, recorded
from tests.e2e.server_process import started

pytestmark = [pytest.mark.weights, pytest.mark.e2e, pytest.mark.timeout(240)]

ASSETS = Path(__file__).parents[1] / "assets"
FOX = "The quick brown fox jumps over the lazy dog, and then it sleeps until the morning."
LOADING_MS = 90_000


def test_a_sentence_spoken_into_the_microphone_is_read_on_the_page(tmp_path: Path) -> None:
    clip = recorded(tmp_path / "fox.wav", ASSETS / "fox.opus")
    with chromium() as launch, started() as server:
        profile = launch(*microphone_flags(clip)).new_context(permissions=["microphone"])
        with opened(profile.new_page(), f"http://127.0.0.1:{server.port}/") as page:
            page.get_by_role("button", name="Microphone").click(timeout=LOADING_MS)
            captions = page.get_by_role("log").locator(".words")
            expect(captions.first).to_contain_text("fox", timeout=LOADING_MS)
            page.get_by_role("button", name="Stop").click()
            expect(page.locator("#status")).to_have_text("Ready", timeout=LOADING_MS)
            heard = " ".join(captions.all_text_contents())

    assert normalised_word_errors(FOX, heard).rate <= 0.2
