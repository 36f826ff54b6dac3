"""The parts of the caption page that need no page, in the browser that they are made for."""

import random
from collections.abc import Generator
from typing import Any

import pytest
from playwright.sync_api import Page

from service.api.cues import cues_of
from service.engine.base import Segment, Word
from tests.e2e.browser import chromium, opened
from tests.e2e.server_process import started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

# A socket that a test opens, feeds and breaks by hand, and a stream on it. Sound comes in seconds.
STREAM = """
const { CaptionStream } = await import("/web/caption_stream.js");
const log = { gaps: [], phases: [], messages: [] };
const sockets = [];
const openSocket = (url) => {
  const socket = { url, bufferedAmount: 0, samples: 0, texts: [], close() { this.isClosed = true; } };
  socket.send = (sent) => {
    if (typeof sent === "string") socket.texts.push(JSON.parse(sent));
    else socket.samples += sent.length;
  };
  socket.say = (message) => socket.onmessage({ data: JSON.stringify(message) });
  socket.ready = () => socket.say({ type: "ready", limits: { max_buffer_s: 10 } });
  sockets.push(socket);
  return socket;
};
const stream = new CaptionStream(
  {
    onPhase: (phase) => log.phases.push(phase),
    onMessage: (message) => log.messages.push(message),
    onGap: (start, end) => log.gaps.push([start, end]),
  },
  { url: "ws://server/v1/stream", openSocket },
);
const hear = (seconds) => {
  for (let i = 0; i < seconds * 20; i += 1) stream.push(new Int16Array(800));
};
const passed = (ms) => new Promise((done) => setTimeout(done, ms));
"""


@pytest.fixture(scope="module")
def page() -> Generator[Page]:
    with (
        started(engine="fake") as server,
        chromium() as launch,
        opened(launch().new_page(), f"http://127.0.0.1:{server.port}/") as page,
    ):
        yield page


def evaluated(page: Page, body: str, argument: Any = None) -> Any:
    return page.evaluate(f"async (given) => {{ {body} }}", argument)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_resampled_sound_keeps_its_pitch_and_loudness(page: Page, rate_hz: int) -> None:
    error = evaluated(
        page,
        """
        const { Resampler } = await import("/web/resampler.js");
        const tone = (hz) => Float32Array.from({ length: hz }, (_, i) => Math.sin(880 * Math.PI * i / hz));
        const found = new Resampler(given, 16000).push(tone(given));
        const wanted = tone(16000);
        let worst = 0;
        for (let i = 200; i < found.length - 200; i += 1) {
          worst = Math.max(worst, Math.abs(found[i] - wanted[i]));
        }
        return { worst, length: found.length };
        """,
        rate_hz,
    )

    assert error["worst"] < 0.002
    assert 15_900 <= error["length"] <= 16_000


def test_what_would_fold_back_is_taken_out(page: Page) -> None:
    loudest = evaluated(
        page,
        """
        const { Resampler } = await import("/web/resampler.js");
        const hiss = Float32Array.from({ length: 48000 }, (_, i) => Math.sin(2 * Math.PI * 9000 * i / 48000));
        return Math.max(...new Resampler(48000, 16000).push(hiss).slice(200, -200).map(Math.abs));
        """,
    )

    assert loudest < 0.003


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_blocks_of_any_size_resample_to_the_same_samples(page: Page, rate_hz: int) -> None:
    same = evaluated(
        page,
        """
        const { Resampler } = await import("/web/resampler.js");
        const sound = Float32Array.from({ length: 5000 }, (_, i) => Math.sin(i * i / 9000));
        const whole = new Resampler(given, 16000).push(sound);
        const pieces = new Resampler(given, 16000);
        const found = [];
        for (let at = 0, size = 1; at < sound.length; at += size, size = (size * 7) % 301) {
          found.push(...pieces.push(sound.slice(at, at + size)));
        }
        return found.length === whole.length && found.every((value, i) => value === whole[i]);
        """,
        rate_hz,
    )

    assert same


def test_the_tape_keeps_the_newest_sound_and_gives_it_back_by_position(page: Page) -> None:
    found = evaluated(
        page,
        """
        const { Tape } = await import("/web/tape.js");
        const tape = new Tape(5);
        for (const values of [[0, 1, 2], [3, 4], [], [5, 6, 7]]) tape.push(Int16Array.from(values));
        const at = (position) => tape.read(position) && [...tape.read(position)];
        return { oldest: tape.oldest, end: tape.end, reads: [at(3), at(4), at(6), at(8)] };
        """,
    )

    assert found == {"oldest": 3, "end": 8, "reads": [[3, 4], [4], [6, 7], None]}


def test_an_outage_longer_than_the_tape_says_what_is_missing(page: Page) -> None:
    found = evaluated(
        page,
        STREAM
        + """
        stream.start({ drop: "auto" });
        sockets[0].ready();
        hear(4);
        await passed(400);
        sockets[0].say({ type: "final", start: 0, end: 3, text: "One." });
        sockets[0].onclose({ code: 1011 });
        hear(36);
        stream.retry();
        sockets[1].ready();
        sockets[1].say({ type: "final", start: 11, end: 12, text: "Two." });
        stream.abandon();
        return { gaps: log.gaps, phases: log.phases, last: log.messages.at(-1), url: sockets[1].url };
        """,
    )

    # Forty seconds in all, thirty kept, three of them settled.
    assert found["gaps"] == [[3, 10]]
    assert found["phases"] == ["connecting", "live", "waiting", "connecting", "live", "idle"]
    assert "&start_s=10&utt=1&" in found["url"]
    assert (found["last"]["start"], found["last"]["end"]) == (11, 12)


def test_a_server_that_falls_silent_is_left(page: Page) -> None:
    found = evaluated(
        page,
        STREAM
        + """
        const now = performance.now;
        let later_ms = 0;
        performance.now = () => now.call(performance) + later_ms;
        stream.start({ drop: "auto" });
        sockets[0].ready();
        hear(4);
        await passed(400);
        sockets[0].say({ type: "lag", end: 2, accepted: 2 });
        later_ms = 14_000;
        hear(0.1);
        const before = stream.phase;
        later_ms = 16_000;
        hear(0.1);
        const after = stream.phase;
        stream.abandon();
        performance.now = now;
        return [before, after, sockets[0].isClosed];
        """,
    )

    assert found == ["live", "waiting", True]


def test_what_the_next_connection_was_promised_is_kept_until_it_begins(page: Page) -> None:
    found = evaluated(
        page,
        STREAM
        + """
        stream.start({ drop: "auto" });
        hear(36);
        sockets[0].ready();
        await passed(300);
        stream.abandon();
        return { gaps: log.gaps, samples: sockets[0].samples };
        """,
    )

    assert found["gaps"] == []
    assert found["samples"] > 0


def test_silence_that_the_server_has_closed_is_not_owed(page: Page) -> None:
    owed_s = evaluated(
        page,
        STREAM
        + """
        stream.start({ drop: "auto" });
        sockets[0].ready();
        hear(9);
        await passed(600);
        sockets[0].say({ type: "lag", end: 8, accepted: 6 });
        const silent = stream.owed_s;
        sockets[0].say({ type: "partial", start: 8, end: 8.5, text: "so" });
        sockets[0].say({ type: "lag", end: 9, accepted: 6 });
        const speaking = stream.owed_s;
        stream.abandon();
        return [silent, speaking];
        """,
    )

    assert owed_s == [3, 3]  # the server says from where on it owes


def test_what_was_kept_is_sent_no_further_ahead_than_the_server_takes(page: Page) -> None:
    sent_s = evaluated(
        page,
        STREAM
        + """
        stream.start({ drop: "auto" });
        hear(25);
        sockets[0].ready();
        const found = [];
        const settle = async () => {
          let before = -1;
          while (before !== sockets[0].samples) {
            before = sockets[0].samples;
            await passed(150);
          }
          found.push(sockets[0].samples / 16000);
        };
        await settle();
        sockets[0].say({ type: "lag", end: 6 });
        await settle();
        stream.abandon();
        return found;
        """,
    )

    assert sent_s == pytest.approx([8, 14], abs=0.2)


def test_stopping_while_the_connection_is_lost_still_gets_the_last_words(page: Page) -> None:
    found = evaluated(
        page,
        STREAM
        + """
        stream.start({ drop: 0.5 });
        sockets[0].ready();
        hear(0.5);
        sockets[0].onclose({ code: 1006 });
        stream.stop();
        sockets[1].ready();
        await passed(300);
        sockets[1].onclose({ code: 1000 });
        return { texts: sockets[1].texts, samples: sockets[1].samples, phase: stream.phase };
        """,
    )

    assert found == {"texts": [{"type": "stop"}], "samples": 8_000, "phase": "idle"}


def test_waits_grow_while_the_server_stays_away(page: Page) -> None:
    waits_s = evaluated(
        page,
        STREAM.replace("onPhase: (phase) =>", "onPhase: (phase, { wait_s }) =>").replace(
            "log.phases.push(phase)", "wait_s && log.phases.push(wait_s)"
        )
        + """
        stream.start({ drop: "auto" });
        for (let i = 0; i < 8; i += 1) {
          sockets.at(-1).onclose({ code: 1006 });
          stream.retry();
        }
        stream.abandon();
        return log.phases;
        """,
    )

    assert len(waits_s) == 8
    for number, wait_s in enumerate(waits_s):
        full_s = min(3.5, 0.5 * 2**number)
        assert 0.75 * full_s <= wait_s <= 1.25 * full_s


def random_segments(seed: int) -> list[Segment]:
    draw = random.Random(seed)
    words: list[Word] = []
    at_s = 0.0
    for _ in range(draw.randint(1, 40)):
        at_s += draw.choice([0.0, 0.0, 0.1, 2.0])
        text = "x" * draw.randint(1, 14) + draw.choice(["", "", "", ".", "?", ","])
        end_s = at_s + draw.choice([0.0, 0.2, 0.5, 1.0])
        words.append(Word(text, at_s, end_s, 1.0))
        at_s = end_s
    cut = draw.randint(1, len(words))
    return [
        Segment(part[0].start_s, part[-1].end_s, " ".join(word.text for word in part), tuple(part))
        for part in (words[:cut], words[cut:])
        if part
    ]


def test_cues_are_cut_as_the_server_cuts_them(page: Page) -> None:
    examples = [random_segments(seed) for seed in range(60)]
    captions = [
        [
            {
                "start": segment.start_s,
                "end": segment.end_s,
                "text": segment.text,
                "words": [
                    {"text": word.text, "start": word.start_s, "end": word.end_s}
                    for word in segment.words
                ],
            }
            for segment in segments
        ]
        for segments in examples
    ]

    found = evaluated(
        page,
        """
        const { cuesOf } = await import("/web/cues.js");
        return given.map((captions) => cuesOf(captions).map(({ start, end, text }) =>
          [Math.round(start * 1000), Math.round(end * 1000), text]));
        """,
        captions,
    )

    wanted = [
        [[cue.start_ms, cue.end_ms, cue.text] for cue in cues_of(segments)] for segments in examples
    ]
    assert [[cue[2] for cue in cues] for cues in found] == [
        [cue[2] for cue in cues] for cues in wanted
    ]
    assert all(
        abs(a[0] - b[0]) <= 1 and abs(a[1] - b[1]) <= 1
        for ours, theirs in zip(found, wanted, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
