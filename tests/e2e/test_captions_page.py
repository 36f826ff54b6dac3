"""The caption page in a real browser: captions, the dial, and a connection that breaks."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import BYTES_PER_S, Wire, speak, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SRT = """1
00:00:00,500 --> 00:00:01,250
One & two.

2
00:01:01,000 --> 01:00:00,000
Three.

"""
VTT = """WEBVTT

00:00:00.500 --> 00:00:01.250
One &amp; two.

00:01:01.000 --> 01:00:00.000
Three.

"""


def test_the_microphone_arrives_as_16_khz_pcm(page: Page, wire: Wire) -> None:
    speak(page, wire)

    expect(page.locator("#status")).to_have_text("Listening")
    assert wire.last.query["sample_rate"] == "16000"
    assert wire.last.query["encoding"] == "pcm_s16le"
    assert wire.last.query["drop"] == "auto"
    assert wire.last.query["resumes"] == "true"
    assert "start_s" not in wire.last.query
    assert len(wire.last.pcm) % 2 == 0


def test_stopping_asks_for_the_last_words_and_then_rests(page: Page, wire: Wire) -> None:
    speak(page, wire)
    page.get_by_role("button", name="Stop").click()

    expect(page.locator("#status")).to_have_text("Ready")
    assert wire.last.messages[-1] == {"type": "stop"}
    assert len(wire.connections) == 1


def test_a_partial_is_tentative_behind_its_stable_words_and_kept_from_screen_readers(
    page: Page, wire: Wire
) -> None:
    speak(page, wire)
    wire.last.send(
        "partial",
        seq=1,
        utt=0,
        start=0.0,
        end=1.0,
        text="the quick brown",
        stable_chars=9,
        layers=8,
    )

    tentative = page.locator("#tentative")
    expect(tentative.locator(".stable")).to_have_text("the quick ")
    expect(tentative.locator(".tail")).to_have_text("brown")
    expect(tentative).to_have_attribute("aria-hidden", "true")
    expect(page.get_by_role("log")).to_be_empty()


def test_a_final_takes_the_place_of_its_partial_and_never_changes(page: Page, wire: Wire) -> None:
    speak(page, wire)
    wire.last.send("partial", start=0.0, end=1.0, text="the quick", stable_chars=0)
    wire.last.send("final", start=0.0, end=1.0, text="The quick fox.", words=[], layers=6.4)
    wire.last.send("partial", start=1.0, end=1.2, text="it sleeps", stable_chars=0)

    expect(page.get_by_role("log").locator(".words")).to_have_text(["The quick fox."])
    expect(page.get_by_role("log")).to_contain_text("6.4/8")
    expect(page.locator("#tentative .words")).to_have_text("it sleeps")


def test_words_are_text_whatever_they_look_like(page: Page, wire: Wire) -> None:
    speak(page, wire)
    wire.last.send("final", start=0.0, end=1.0, text="<img src=x> & co", words=[], layers=8)

    expect(page.get_by_role("log").locator(".words")).to_have_text("<img src=x> & co")


def test_the_slider_configures_the_running_stream_and_later_ones(page: Page, wire: Wire) -> None:
    speak(page, wire)
    page.get_by_label("Depth").and_(page.get_by_role("slider")).fill("2")

    until(page, lambda: wire.last.said("configure"))
    assert wire.last.said("configure")[-1] == {"type": "configure", "drop": 0.5, "policy": "ladder"}
    expect(page.locator("#depth-text")).to_have_text("4 of 8 layers")
    expect(page.get_by_role("switch", name="Auto")).not_to_be_checked()

    wire.last.close(1011)

    until(page, lambda: len(wire.connections) == 2)
    assert wire.last.query["drop"] == "0.5"


def test_the_slider_is_worked_by_keys_and_auto_takes_it_back(page: Page, wire: Wire) -> None:
    speak(page, wire)
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("ArrowLeft")
    page.get_by_role("switch", name="Auto").press("Space")

    until(page, lambda: len(wire.last.said("configure")) == 2)
    assert [message["drop"] for message in wire.last.said("configure")] == [0.5, "auto"]


def test_in_automatic_mode_the_thumb_follows_the_server(page: Page, wire: Wire) -> None:
    speak(page, wire)
    wire.last.send("depth", layers=2, drop=0.75, plan=[4] * 8, reason="auto", applies="next_chunk")

    expect(page.get_by_role("slider")).to_have_attribute(
        "aria-valuetext", "automatic, now 2 of 8 layers"
    )
    expect(page.locator("#layers .value")).to_have_text("2/8")
    assert not wire.last.said("configure")


def test_a_change_that_waits_for_the_next_utterance_is_said_to(page: Page, wire: Wire) -> None:
    speak(page, wire)
    note = page.locator("#depth-note")
    wire.last.send("depth", layers=4, drop=0.5, reason="configure", applies="next_utterance")
    expect(note).to_contain_text("next utterance")

    wire.last.send("depth", layers=4, drop=0.5, reason="configure", applies="next_chunk")
    expect(note).to_be_empty()


def test_costs_are_shown_and_drawn(page: Page, wire: Wire) -> None:
    speak(page, wire)
    for seconds, busy_s, flops in ((1.0, 0.05, 2e9), (2.0, 0.0921, 3.5e9)):
        wire.last.send("lag", end=seconds / 10, lag_ms=100, buffered_s=0)
        wire.last.send("stats", audio_s=seconds, rtf=busy_s / seconds, flops=flops)

    expect(page.locator("#rtf .value")).to_have_text("0.042")
    expect(page.locator("#flops .value")).to_have_text("1.50")
    expect(page.locator("#lag .value")).to_have_text(re.compile(r"^\d\.\d\d s$"))
    for name in ("lag", "rtf", "flops"):
        drawn = page.locator(f"#{name} polyline").get_attribute("points")
        assert drawn is not None
        assert len(drawn.split()) == 2


def test_sound_that_the_server_dropped_is_marked_where_it_is_missing(
    page: Page, wire: Wire
) -> None:
    speak(page, wire)
    wire.last.send("warning", code="audio_dropped", message="behind", start=0.0, end=3.25)

    expect(page.get_by_role("log").locator(".words")).to_have_text(["[3.3 s of sound missing]"])


def test_a_lost_connection_is_made_again_and_given_the_sound_since_the_last_final(
    page: Page, wire: Wire
) -> None:
    speak(page, wire)
    wire.last.send("final", start=0.1, end=0.3, text="One.", words=[], layers=8)
    wire.last.send("partial", start=0.3, end=0.5, text="two", stable_chars=0, layers=8)
    expect(page.locator("#tentative .words")).to_have_text("two")
    first = wire.last
    first.close(1011)
    expect(page.get_by_role("alert")).to_contain_text("Connection lost")

    until(page, lambda: len(wire.connections) == 2 and len(wire.last.pcm) > len(first.pcm))
    owed = first.pcm[round(0.3 * BYTES_PER_S) :]
    wire.last.send("final", start=0.3, end=0.7, text="Two.", words=[], layers=8)

    assert wire.last.pcm.startswith(owed)
    assert wire.last.query["start_s"] == "0.3"
    assert (wire.last.query["utt"], wire.last.query["after"]) == ("1", "lost")
    expect(page.get_by_role("log").locator(".words")).to_have_text(["One.", "Two."])
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_restarting_server_is_asked_again_soon(page: Page, wire: Wire) -> None:
    speak(page, wire)
    wire.last.close(1001)

    expect(page.get_by_role("alert")).to_contain_text("The server is restarting")
    until(page, lambda: len(wire.connections) == 2)


def test_a_stream_that_is_asked_to_move_goes_on_elsewhere_without_an_alarm(
    page: Page, wire: Wire
) -> None:
    speak(page, wire)
    wire.last.send("warning", seq=4, code="moving", message="", start=0.2, end=0.2)
    expect(page.locator("#status")).to_have_text("Changing servers soon")
    wire.last.send("final", seq=5, utt=0, start=0.1, end=0.3, text="One.", words=[], layers=8)
    wire.last.send("done", seq=6, reason="move", end=0.4)
    wire.last.close(1001)

    until(page, lambda: len(wire.connections) == 2)
    expect(page.locator("#status")).to_have_text("Listening")
    query = wire.last.query
    assert (query["start_s"], query["utt"], query["seq"]) == ("0.4", "1", "7")
    assert query["after"] == "move"
    assert float(query["moved_s"]) < 5
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.get_by_role("log").locator(".words")).to_have_text(["One."])


def test_a_full_server_is_left_alone_for_as_long_as_it_says(page: Page, wire: Wire) -> None:
    wire.greet = False
    page.get_by_role("button", name="Microphone").click()
    until(page, lambda: wire.connections)
    wire.last.send("error", code="overloaded", message="full", retry_after_ms=60_000, fatal=True)
    wire.last.close(1013)

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server is full")
    expect(alert).to_contain_text("Trying again in 60 s")
    assert len(wire.connections) == 1

    wire.greet = True
    alert.get_by_role("button", name="Connect now").click()

    until(page, lambda: len(wire.connections) == 2)
    expect(page.locator("#status")).to_have_text("Listening")


def test_a_refusal_is_shown_and_not_asked_again(page: Page, wire: Wire) -> None:
    speak(page, wire)
    wire.last.send("error", code="drop_out_of_range", message="expected drop in [0, 1)", fatal=True)
    wire.last.close(4400)

    expect(page.get_by_role("alert")).to_contain_text("expected drop in [0, 1)")
    expect(page.locator("#status")).to_have_text("Refused")
    page.wait_for_timeout(1500)  # longer than the first wait of a retry
    assert len(wire.connections) == 1

    page.get_by_role("button", name="Stop now").click()
    expect(page.get_by_role("button", name="Microphone")).to_be_enabled()


def test_captions_are_saved_in_three_formats(page: Page, wire: Wire) -> None:
    speak(page, wire)
    wire.last.send("final", start=0.5, end=1.25, text="One & two.", words=[], layers=8)
    wire.last.send("final", start=61.0, end=3600.0, text="Three.", words=[], layers=8)

    for form, content in {"txt": "One & two.\nThree.\n", "srt": SRT, "vtt": VTT}.items():
        with page.expect_download() as download:
            page.get_by_role("button", name=form).click()

        assert download.value.suggested_filename == f"captions.{form}"
        assert download.value.path().read_text(encoding="utf-8") == content
