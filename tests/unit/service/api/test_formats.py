import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.cues import MAX_CHARS, MAX_MS, cues_of
from service.api.formats import FORMATS, Format, headers_of, render
from service.engine.base import Cost, PlanInUse, Segment, Word
from service.scheduling.transcripts import Timing, Transcript

PLAN = PlanInUse((2, 2, 4, 0), 1.25, 4, 0.6875)
SRT_TIMES = re.compile(r"\d{2}:[0-5]\d:[0-5]\d,\d{3} --> \d{2}:[0-5]\d:[0-5]\d,\d{3}")
TIMES_S = st.floats(0, 20_000, allow_nan=False)


def transcript_of(*segments: Segment, audio_s: float = 12.3456) -> Transcript:
    cost = Cost(1000, 600, 2000, 0.25, 0.5)
    timing = Timing(0.1, 0.01, 0.25, 0.5, 0.9)
    return Transcript("m", PLAN, "ladder", segments, audio_s, cost, timing)


def spoken(text: str, start_s: float = 0.0, word_s: float = 0.5) -> Segment:
    words = tuple(
        Word(word, start_s + index * word_s, start_s + (index + 1) * word_s, 0.9)
        for index, word in enumerate(text.split())
    )
    return Segment(start_s, start_s + word_s * len(words), text, words, -0.2, 1.1)


def test_json_says_what_was_used() -> None:
    answer = json.loads(render(transcript_of(spoken("so it is")), "json", upload_s=0.2).body)

    assert answer == {
        "text": "so it is",
        "model": "m",
        "layers": 1.25,
        "layers_total": 4,
        "plan": [2, 2, 4, 0],
        "drop": 0.6875,
        "policy": "ladder",
        "flops": 1000,
        "encoder_flops": 600,
        "audio_seconds": 12.346,
        "timing_ms": {
            "upload": 200.0,
            "audio": 100.0,
            "queue": 10.0,
            "encode": 250.0,
            "decode": 500.0,
            "total": 1100.0,
        },
    }


def test_headers_say_the_same() -> None:
    assert headers_of(transcript_of(), upload_s=0.2) == {
        "X-ASR-Layers": "1.25/4",
        "X-ASR-Plan": "2,2,4,0",
        "X-ASR-Drop": "0.6875",
        "X-ASR-FLOPs": "1000",
        "X-ASR-Encoder-FLOPs": "600",
        "X-ASR-Audio-Seconds": "12.346",
        "Server-Timing": "upload;dur=200.0, audio;dur=100.0, queue;dur=10.0, encode;dur=250.0, "
        "decode;dur=500.0, total;dur=1100.0",
    }


def test_verbose_json_adds_segments_and_words() -> None:
    answer = json.loads(render(transcript_of(spoken("so it", 8.0)), "verbose_json").body)

    assert answer["task"] == "transcribe"
    assert answer["duration"] == 12.346
    assert answer["segments"] == [
        {
            "id": 0,
            "start": 8.0,
            "end": 9.0,
            "text": "so it",
            "avg_logprob": -0.2,
            "compression_ratio": 1.1,
        }
    ]
    assert answer["words"][1] == {"word": "it", "start": 8.5, "end": 9.0, "confidence": 0.9}


def test_text_is_the_words_and_a_newline() -> None:
    assert render(transcript_of(spoken("so it"), spoken("is", 2.0)), "text").body == "so it is\n"


def test_srt_numbers_its_cues() -> None:
    body = render(transcript_of(spoken("one two"), spoken("three", 3600.0)), "srt").body

    assert body == (
        "1\n00:00:00,000 --> 00:00:01,000\none two\n\n2\n01:00:00,000 --> 01:00:00,500\nthree\n"
    )


def test_vtt_has_its_header_and_escapes_markup() -> None:
    body = render(transcript_of(spoken("<b> & co --> on")), "vtt").body

    assert body == ("WEBVTT\n\n00:00:00.000 --> 00:00:02.500\n&lt;b&gt; &amp; co --&gt; on\n")


@pytest.mark.parametrize(
    ("time_s", "written"),
    [(59.9996, "00:01:00,000"), (3599.9999, "01:00:00,000"), (0.9995, "00:00:01,000")],
)
def test_rounding_carries_into_the_next_field(time_s: float, written: str) -> None:
    segment = Segment(time_s, time_s + 1, "word")

    assert written in render(transcript_of(segment), "srt").body


def test_silence_is_an_empty_answer_in_every_format() -> None:
    bodies = {form: render(transcript_of(), form).body for form in ("text", "srt", "vtt")}

    assert bodies == {"text": "", "srt": "", "vtt": "WEBVTT\n"}
    assert json.loads(render(transcript_of(), "json").body)["text"] == ""


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("json", "application/json"),
        ("verbose_json", "application/json"),
        ("text", "text/plain; charset=utf-8"),
        ("srt", "application/x-subrip; charset=utf-8"),
        ("vtt", "text/vtt; charset=utf-8"),
    ],
)
def test_each_format_has_its_media_type(form: Format, media_type: str) -> None:
    assert form in FORMATS
    assert render(transcript_of(), form).media_type == media_type


@given(st.lists(st.tuples(TIMES_S, TIMES_S, st.text(min_size=1)), max_size=6))
def test_srt_times_are_well_formed_whatever_the_segments(
    rows: list[tuple[float, float, str]],
) -> None:
    segments = [Segment(start_s, end_s, text) for start_s, end_s, text in rows]

    body = render(transcript_of(*segments), "srt").body

    lines = [line for line in body.split("\n") if " --> " in line]
    assert len([line for line in lines if SRT_TIMES.fullmatch(line)]) == len(rows)


@given(
    st.lists(st.tuples(st.from_regex(r"[a-z]{1,12}[.?!]?", fullmatch=True), TIMES_S), max_size=60)
)
def test_cues_hold_every_word_once_in_order_and_never_overlap(
    rows: list[tuple[str, float]],
) -> None:
    starts_s = sorted(start_s for _, start_s in rows)
    words = tuple(
        Word(text, start_s, start_s + 0.3, 0.9)
        for (text, _), start_s in zip(rows, starts_s, strict=True)
    )
    text = " ".join(word.text for word in words)

    cues = cues_of([Segment(0.0, 20_001.0, text, words)])

    assert " ".join(cue.text for cue in cues) == text
    assert all(cue.end_ms > cue.start_ms for cue in cues)
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(cues))
    assert all(len(cue.text) <= MAX_CHARS for cue in cues)


def test_a_long_segment_becomes_cues_one_can_read() -> None:
    cues = cues_of([spoken("word " * 40)])

    assert len(cues) > 2
    assert all(cue.end_ms - cue.start_ms <= MAX_MS for cue in cues)


def test_a_cue_ends_at_a_pause_and_at_a_sentence() -> None:
    words = (
        *spoken("This is a sentence that is long enough, really.").words,
        *spoken("And on", 4.5).words,
        *spoken("later", 9.0).words,
    )
    text = " ".join(word.text for word in words)

    cues = cues_of([Segment(0.0, 10.0, text, words)])

    assert [cue.text for cue in cues] == [
        "This is a sentence that is long enough, really.",
        "And on",
        "later",
    ]


def test_words_that_do_not_make_up_the_text_are_not_trusted_with_it() -> None:
    segment = Segment(0.0, 2.0, "It's 5 o'clock", (Word("its", 0.0, 1.0, 0.9),))

    assert [cue.text for cue in cues_of([segment])] == ["It's 5 o'clock"]
