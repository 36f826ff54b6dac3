"""A server that stops or dies in the middle of a spoken sentence: the page's transcript is whole."""

import re
import signal
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page, expect

from tests.audio_kit import silence
from tests.e2e.browser import PATIENCE_MS, chromium, microphone_flags, opened, recorded, until
from tests.e2e.server_process import started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ASSETS = Path(__file__).parents[1] / "assets"
PAUSE_S = 1.2
CUE = re.compile(r"00:00:(\d\d),(\d\d\d) --> .*\n(.*)\n")


@pytest.fixture
def tab(tmp_path: Path) -> Generator[Page]:
    fox, rate_hz = soundfile.read(ASSETS / "fox.opus", dtype="float32")
    report, _ = soundfile.read(ASSETS / "report.opus", dtype="float32")
    sentences = tmp_path / "sentences.wav"
    soundfile.write(sentences, np.concatenate([fox, silence(PAUSE_S), report]), rate_hz)
    clip = recorded(tmp_path / "clip.wav", sentences, after_s=3.0)
    with chromium() as launch:
        browser = launch(*microphone_flags(clip))
        yield browser.new_context(permissions=["microphone"]).new_page()


def saved_cues(page: Page) -> list[tuple[float, list[str]]]:
    """When each caption that was saved begins, and its words."""
    with page.expect_download() as download:
        page.get_by_role("button", name="srt").click()
    text = download.value.path().read_text(encoding="utf-8")
    return [(int(s) + int(ms) / 1000, words.split()) for s, ms, words in CUE.findall(text)]


def expect_the_sentence_to_be_lost(page: Page) -> None:
    expect(page.locator("#status")).to_have_text(
        re.compile("Not connected|Connecting"), timeout=PATIENCE_MS
    )


def expect_the_sentence_to_end(page: Page) -> None:
    expect(page.locator("#status")).to_have_text("Changing servers soon", timeout=PATIENCE_MS)
    expect(page.get_by_role("log").locator(".words")).to_have_count(1, timeout=PATIENCE_MS)


@pytest.mark.parametrize(
    ("end", "then"),
    [
        (signal.SIGTERM, expect_the_sentence_to_end),
        (signal.SIGKILL, expect_the_sentence_to_be_lost),
    ],
)
def test_a_server_that_goes_in_the_middle_of_a_sentence_costs_no_word(
    tab: Page, end: signal.Signals, then: Callable[[Page], None]
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(started(engine="fake"))
        page = stack.enter_context(opened(tab, f"http://127.0.0.1:{server.port}/"))
        page.get_by_role("button", name="Microphone").click()
        expect(page.locator("#tentative .words")).to_contain_text("charlie", timeout=PATIENCE_MS)

        server.process.send_signal(end)
        then(page)
        server.process.wait()
        stack.enter_context(started(None, server.port, engine="fake"))
        captions = page.get_by_role("log").locator(".words")
        until(page, lambda: captions.count() == 2)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#status")).to_have_text("Ready", timeout=PATIENCE_MS)
        cues = saved_cues(page)
        told = page.get_by_role("log").inner_text()

    assert "missing" not in told
    (first_s, first), (second_s, second) = cues
    # Each sentence is 4.3 s of sound, and half seconds are words to the fake engine.
    for words in (first, second):
        assert words[:3] == ["alpha", "bravo", "charlie"]
        assert 8 <= len(words) <= 10
        assert len(set(words)) == len(words)
    # Nothing of the time between them was lost on the way: it is 4.8 s of clip, and the pause.
    assert second_s - first_s == pytest.approx(4.825 + PAUSE_S, abs=0.7)
