"""The caption page in a real browser: where sound comes from, who may listen, and rest."""

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.browser import BYTES_PER_S, Wire, opened, speak, until
from tests.service_kit import wav_bytes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

COUNT_TIMERS = """
window.timersStarted = 0;
for (const name of ["setTimeout", "setInterval", "requestAnimationFrame"]) {
  const original = window[name].bind(window);
  window[name] = (...rest) => { window.timersStarted += 1; return original(...rest); };
}
window.contexts = [];
const Original = window.AudioContext;
window.AudioContext = class extends Original {
  constructor(...rest) { super(...rest); window.contexts.push(this); }
};
window.tracks = [];
const media = navigator.mediaDevices; // an empty page has none
const ask = media?.getUserMedia.bind(media);
if (media) {
  media.getUserMedia = async (wanted) => {
    const stream = await ask(wanted);
    window.tracks.push(...stream.getTracks());
    return stream;
  };
}
"""


def test_nothing_runs_once_the_page_rests(
    profile: BrowserContext, address: str, wire: Wire
) -> None:
    new_tab = profile.new_page()
    new_tab.add_init_script(COUNT_TIMERS)
    wire.attach(new_tab)
    with opened(new_tab, address) as page:
        speak(page, wire)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#status")).to_have_text("Ready")
        before = page.evaluate("timersStarted")
        received = len(wire.last.pcm)
        page.wait_for_timeout(1000)

        assert page.evaluate("timersStarted") == before
        assert len(wire.last.pcm) == received
        assert page.evaluate("contexts.map(({state}) => state)") == ["closed"]
        assert page.evaluate("tracks.map(({readyState}) => readyState)") == ["ended"]


def test_a_file_is_played_and_its_end_ends_the_stream(page: Page, wire: Wire) -> None:
    file = {"name": "talk.wav", "mimeType": "audio/wav", "buffer": wav_bytes(1.5, rate_hz=44_100)}
    page.locator("#file").set_input_files(file)  # pyright: ignore[reportArgumentType] a FilePayload

    until(page, lambda: wire.connections and wire.last.said("stop"))
    played = np.frombuffer(wire.last.pcm, "<i2").astype(int)
    # A block here and there is still under way when the file ends.
    assert 1.2 < np.count_nonzero(np.abs(played) > 10) / 16_000 < 1.6
    expect(page.locator("#status")).to_have_text("Ready")


def test_a_file_that_pauses_is_silence_and_not_a_client_that_has_gone(
    page: Page, wire: Wire
) -> None:
    file = {"name": "talk.wav", "mimeType": "audio/wav", "buffer": wav_bytes(60.0)}
    page.locator("#file").set_input_files(file)  # pyright: ignore[reportArgumentType] a FilePayload
    until(page, lambda: wire.connections and len(wire.last.pcm) >= BYTES_PER_S // 2)
    page.locator("audio").evaluate("media => media.pause()")
    page.wait_for_timeout(200)
    paused_at = len(wire.last.pcm)

    until(page, lambda: len(wire.last.pcm) >= paused_at + BYTES_PER_S // 2)
    assert not any(wire.last.pcm[paused_at + BYTES_PER_S // 4 :])


def test_a_file_that_is_no_sound_is_said_to_be_so(page: Page) -> None:
    file = {"name": "talk.wav", "mimeType": "audio/wav", "buffer": b"not a sound"}
    page.locator("#file").set_input_files(file)  # pyright: ignore[reportArgumentType] a FilePayload

    expect(page.get_by_role("alert")).to_contain_text("cannot play this file")
    expect(page.get_by_role("button", name="Microphone")).to_be_enabled()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("NotAllowedError", "does not let this page listen"),
        ("NotFoundError", "No microphone found"),
        ("NotReadableError", "cannot be opened"),
    ],
)
def test_a_microphone_that_cannot_be_had_is_explained(
    page: Page, wire: Wire, error: str, words: str
) -> None:
    page.evaluate(
        """(name) => { navigator.mediaDevices.getUserMedia =
             async () => { throw new DOMException("no", name); }; }""",
        error,
    )
    page.get_by_role("button", name="Microphone").click()

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(words)
    expect(alert.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.get_by_role("button", name="Microphone")).to_be_enabled()
    assert not wire.connections


def test_a_tab_without_sound_is_explained(page: Page, wire: Wire) -> None:
    page.evaluate(
        """() => { navigator.mediaDevices.getDisplayMedia = async () =>
             document.createElement("canvas").captureStream(); }"""
    )
    page.get_by_role("button", name="Tab or window").click()

    expect(page.get_by_role("alert")).to_contain_text("Nothing to hear")
    assert not wire.connections


def test_the_sound_of_a_tab_is_captioned_until_sharing_ends(page: Page, wire: Wire) -> None:
    page.evaluate(
        """() => { navigator.mediaDevices.getDisplayMedia = async () => {
             const context = new AudioContext();
             const tone = new OscillatorNode(context);
             const shared = context.createMediaStreamDestination();
             tone.connect(shared);
             tone.start();
             window.shared = shared.stream.getAudioTracks()[0];
             return shared.stream;
           }; }"""
    )
    page.get_by_role("button", name="Tab or window").click()
    until(page, lambda: wire.connections and len(wire.last.pcm) >= BYTES_PER_S // 2)
    page.evaluate("shared.dispatchEvent(new Event('ended'))")

    until(page, lambda: wire.last.said("stop"))
    assert any(wire.last.pcm)


def test_a_visitor_with_a_keyboard_reaches_all_controls(page: Page) -> None:
    expect(page.get_by_role("button", name="Microphone")).to_be_enabled()
    reached: list[str] = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id")
        )

    assert reached[0] == "Skip to the controls"
    found = [name for name in reached if name in {"Microphone", "Tab or window", "File", "auto"}]
    assert found == ["Microphone", "Tab or window", "File", "auto"]
    names = page.locator("footer").aria_snapshot()
    assert re.search(r'slider "Depth"', names)
    assert re.search(r'switch "Auto"', names)


def test_a_model_that_is_still_loading_is_waited_for(profile: BrowserContext, address: str) -> None:
    answers = [503, 200]
    new_tab = profile.new_page()
    new_tab.route(
        "**/v1/models",
        lambda route: route.continue_() if answers.pop(0) == 200 else route.fulfill(status=503),
    )
    loading = json.dumps({"status": "not_ready", "reason": "loading"})
    new_tab.route("**/readyz", lambda route: route.fulfill(status=503, body=loading))
    with opened(new_tab, address) as page:
        expect(page.locator("#status")).to_have_text("The server is loading its model.")
        expect(page.get_by_role("button", name="Microphone")).to_be_enabled()


def test_a_denied_permission_is_explained(launch: Callable[..., Browser], address: str) -> None:
    browser = launch("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    with opened(browser.new_page(), address) as page:
        page.get_by_role("button", name="Microphone").click()

        expect(page.get_by_role("alert")).to_contain_text("does not let this page listen")
        expect(page.locator("#status")).to_have_text("Ready")
