"""The native dialect, both ways, and the document that describes it."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.api.asyncapi import FROM_CLIENT, FROM_SERVER, asyncapi_document
from service.api.problems import CLOSE_CODE, close_code_of
from service.api.stream_dialect import Keepalive, Moved, StreamLimits, Welcome
from service.api.stream_messages import server_messages
from service.api.stream_native import NativeDialect
from service.engine.base import AUTO, DepthChoice, Word
from service.engine.fake import FakeEngine
from service.errors import (
    CallerError,
    DropOutOfRange,
    EngineFailed,
    MessageInvalid,
    Overloaded,
    ParameterInvalid,
    ServiceError,
)
from service.streaming.commands import Configure, Flush, Marker, Stop
from service.streaming.events import (
    Depth,
    Done,
    Dropped,
    Event,
    Final,
    Lag,
    Leaving,
    LeavingReason,
    Marked,
    Partial,
    Refused,
    Stats,
)

ENGINE = FakeEngine()
INFO = ENGINE.load()
HALF = ENGINE.choose(0.5, None, "ladder")
CHOICE = DepthChoice(AUTO)
STATS = Stats(2.0, 1.0, 0.5, 1, 4.0, 10, 20, 0.25, 99)
EVENTS: tuple[Event, ...] = (
    Partial(0, 0.2, 1.0004, "so far", 2, 4.0, 0.1234),
    Final(
        *(0, 0.2, 1.5, "so far", (Word("so", 0.2, 0.4, 0.95),), 4.0),
        *(((0.2, HALF),), 0.5, 10, 0.1, 0.2, "endpoint"),
    ),
    Depth(HALF, "configure", "next_chunk"),
    Lag(1.0, 0.1, 0.3, 0.5),
    Dropped(1.0, 2.5),
    Leaving("drain", 1.0, 7.5),
    Marked("m"),
    STATS,
    Refused(MessageInvalid("expected a message")),
    Done("stop", STATS, 2.0),
)
LIMITS = StreamLimits(
    max_frame_bytes=1,
    max_buffer_s=1.0,
    burst_s=1.0,
    max_speed=1.0,
    first_message_s=1.0,
    idle_s=1.0,
    reader_s=1.0,
    leave_s=1.0,
)


def command(**message: Any) -> object:
    return NativeDialect().command(json.dumps(message), CHOICE)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_a_message_of_the_schema(event: Event) -> None:
    text = NativeDialect().event(event)

    message = server_messages().validate_json(text, strict=True)
    assert message.seq == 0
    assert message.model_dump(mode="json") == json.loads(text)


def test_messages_are_numbered_across_kinds() -> None:
    dialect = NativeDialect()
    welcome = Welcome("id", "request", INFO, dialect.config({}), HALF, LIMITS)

    texts = [dialect.welcome(welcome), dialect.event(EVENTS[0]), dialect.error(None)]

    assert [json.loads(text)["seq"] for text in texts] == [0, 1, 2]


def test_the_welcome_says_what_is_served() -> None:
    dialect = NativeDialect()
    config = dialect.config({"sample_rate": "8000", "encoding": "alaw"})

    message = json.loads(dialect.welcome(Welcome("id", "request", INFO, config, HALF, LIMITS)))

    assert (message["sample_rate"], message["encoding"]) == (8000, "alaw")
    assert (message["layers"], message["plan"]) == (4.0, [2] * 8)
    assert [one["layers"] for one in message["depths"]] == [8, 4, 2, 1]
    assert message["chunk_ms"] == 400


def test_times_have_milliseconds_and_lag_is_in_them() -> None:
    message = json.loads(NativeDialect().event(EVENTS[0]))

    assert (message["end"], message["lag_ms"]) == (1.0, 123)


def test_the_defaults_of_the_query() -> None:
    config = NativeDialect().config({})

    assert (config.encoding, config.rate_hz, config.endpointing_s) == ("pcm_s16le", 16_000, 0.5)
    assert config.choice == DepthChoice(AUTO, None, "ladder")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"sample_rate": "7"}, "expected sample_rate to be one of '8000', '16000'"),
        ({"surprise": "x"}, "expected only documented fields, got 'surprise'"),
        ({"endpointing_ms": "x"}, "expected a valid endpointing_ms, got one that is not"),
        ({"words": "perhaps"}, "expected a valid words, got one that is not"),
        ({"start_s": "nan"}, "expected a valid start_s, got one that is not"),
        ({"start_s": "inf"}, "expected a valid start_s, got one that is not"),
        ({"start_s": "-0.001"}, "expected a valid start_s, got one that is not"),
        ({"start_s": "1e9"}, "expected a valid start_s, got one that is not"),
        ({"utt": "-1"}, "expected a valid utt, got one that is not"),
        ({"utt": "0.5"}, "expected a valid utt, got one that is not"),
        ({"seq": "99999999999"}, "expected a valid seq, got one that is not"),
        ({"moved_s": "-1"}, "expected a valid moved_s, got one that is not"),
        ({"moved_s": "nan"}, "expected a valid moved_s, got one that is not"),
        ({"after": "lunch"}, "expected after to be one of 'drain', 'move' or 'lost'"),
        ({"resumes": "perhaps"}, "expected a valid resumes, got one that is not"),
    ],
)
def test_a_bad_query_is_named_without_its_value(query: dict[str, str], message: str) -> None:
    with pytest.raises(ParameterInvalid, match=message):
        NativeDialect().config(query)


def test_a_stream_that_comes_from_elsewhere_says_where_it_is() -> None:
    dialect = NativeDialect()
    place = {"start_s": "12.34567", "utt": "3", "seq": "40"}
    config = dialect.config(
        {**place, "resumes": "true", "after": "move", "moved_s": "0.5", "drop": "0"}
    )
    ready = json.loads(dialect.welcome(Welcome("id", "request", INFO, config, HALF, LIMITS)))

    assert (config.start_s, config.first_utterance) == (12.34567, 3)
    assert dialect.moved == Moved(resumes=True, after="move", since_s=0.5)
    assert (ready["seq"], ready["start_s"], ready["utt"]) == (40, 12.34567, 3)
    assert json.loads(dialect.event(EVENTS[3]))["seq"] == 41


@pytest.mark.parametrize(("reason", "code"), [("drain", "draining"), ("move", "moving")])
def test_a_stream_that_should_leave_is_warned(reason: LeavingReason, code: str) -> None:
    message = json.loads(NativeDialect().event(Leaving(reason, 1.5, 7.5)))

    assert (message["type"], message["code"], message["deadline_ms"]) == ("warning", code, 7_500)
    assert message["start"] == message["end"] == 1.5
    assert "ends at its next pause, within 7.5 s" in message["message"]


def test_done_says_what_was_accepted() -> None:
    assert json.loads(NativeDialect().event(EVENTS[-1]))["end"] == 2.0


def test_commands_are_read() -> None:
    assert command(type="flush") == Flush()
    assert command(type="stop") == Stop()
    assert command(type="keepalive") == Keepalive()
    assert command(type="marker", id="m") == Marker("m")


def test_configure_changes_what_it_names_and_keeps_the_rest() -> None:
    before = DepthChoice(0.5, 0.75, "skip")

    def configured(**fields: Any) -> Configure:
        text = json.dumps({"type": "configure", **fields})
        read = NativeDialect().command(text, before)
        assert isinstance(read, Configure)
        return read

    assert configured(endpointing_ms=300) == Configure(None, 0.3)
    assert configured(drop=0.25).choice == DepthChoice(0.25, 0.75, "skip")
    assert configured(drop="auto").choice == DepthChoice(AUTO, 0.75, "skip")
    assert configured(policy="ladder").choice == DepthChoice(0.5, 0.75, "ladder")
    assert configured(max_drop=0.5).choice == DepthChoice(0.5, 0.5, "skip")


@pytest.mark.parametrize("drop", [1, -0.1, "nan", "half", 1e9])
def test_a_depth_that_is_none_is_refused(drop: object) -> None:
    with pytest.raises(DropOutOfRange):
        command(type="configure", drop=drop)


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda b: b.decode("latin-1"))))
def test_any_text_is_read_or_refused(text: str) -> None:
    def answer() -> str:
        try:
            return f"expected {NativeDialect().command(text, CHOICE)}"
        except CallerError as error:
            return str(error)

    assert answer().startswith("expected")


def test_an_error_of_ours_says_nothing_and_one_of_load_says_when() -> None:
    fault = json.loads(NativeDialect().error(None))
    busy = json.loads(NativeDialect().error(Overloaded("expected", retry_after_s=3)))

    assert (fault["code"], fault["fatal"]) == ("internal_error", True)
    assert (busy["code"], busy["retry_after_ms"]) == ("overloaded", 3_000)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ParameterInvalid("x"), 4400),
        (errors.DepthRefused("x"), 4400),
        (errors.MessagesRefused("x"), 1008),
        (errors.ClientTooSlow("x"), 4408),
        (errors.Draining("x", retry_after_s=1), 1001),
        (errors.Loading("x", retry_after_s=1), 1013),
        (errors.Overloaded("x", retry_after_s=1), 1013),
        (EngineFailed("x"), 1011),
    ],
)
def test_each_error_has_its_close_code(error: ServiceError, code: int) -> None:
    assert close_code_of(error) == code


def test_every_close_code_is_documented() -> None:
    info = asyncapi_document()["info"]
    assert isinstance(info, dict)

    assert all(str(code) in info["description"] for code in {1000, *CLOSE_CODE.values()})


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = asyncapi_document()

    found = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    assert len(found) > len(FROM_SERVER) + len(FROM_CLIENT)
    for reference in found:
        node: Any = document
        for step in reference.split("/"):
            node = node[step]


def test_every_field_of_time_says_what_it_is() -> None:
    schemas: Any = asyncapi_document()["components"]
    final = schemas["schemas"]["FinalMessage"]["properties"]

    assert {"seq", "utt", "start", "end", "text", "words", "layers", "plans"} <= final.keys()
    assert {"drop", "flops", "rtf", "lag_ms", "reason"} <= final.keys()
