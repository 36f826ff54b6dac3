import io
import json
import signal
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from service.cli import main
from service.cli.resume_state import Missing
from service.cli.stream import Teller, run, stream_url
from service.engine.base import DepthChoice
from service.errors import ParameterInvalid
from tests.cli_kit import FINAL, PARTIAL, command, say, scripted, take_until_stop, told
from tests.service_kit import wav_bytes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav_bytes(0.25))
    return path


def test_a_file_is_streamed_to_its_end_and_finals_become_lines(recording: Path) -> None:
    received: list[bytes] = []
    paths: list[str] = []

    def script(socket: ServerConnection) -> None:
        assert socket.request is not None
        paths.append(socket.request.path)
        say(socket, {"type": "ready"})
        received.append(take_until_stop(socket))
        say(socket, PARTIAL, FINAL, {"type": "final", "text": ""}, {"type": "done"})

    status, out, err = told(script, recording)

    assert (status, out, err) == (0, "alpha bravo\n", "")
    assert received == [wav_bytes(0.25)[44:]]
    assert paths == ["/v1/stream?sample_rate=16000&drop=auto&policy=ladder&resumes=true"]


def test_a_terminal_shows_partials_on_one_line_that_finals_replace() -> None:
    out = Terminal()
    teller = Teller(out, io.StringIO(), json_lines=False)

    teller.tell(PARTIAL)
    teller.tell({"type": "partial", "text": "x" * 500, "stable_chars": 0})
    teller.tell(FINAL)

    first, second, last = out.getvalue().split("\r\x1b[K")[1:]
    assert (first, last) == ("alp", "alpha bravo\n")
    assert set(second) == {"x"}
    assert len(second) < 500


def test_json_lines_are_the_messages_as_they_came() -> None:
    out = Terminal()
    teller = Teller(out, io.StringIO(), json_lines=True)

    for message in (PARTIAL, FINAL):
        teller.tell(message)

    assert [json.loads(line) for line in out.getvalue().splitlines()] == [PARTIAL, FINAL]


def test_dropped_sound_is_said_on_stderr() -> None:
    err = io.StringIO()

    Teller(io.StringIO(), err, json_lines=False).tell(
        {"type": "warning", "code": "audio_dropped", "start": 1.0, "end": 2.5}
    )

    assert err.getvalue() == "asr: 1.5 s of sound were dropped\n"


def test_what_the_server_refuses_without_ending_the_stream_is_said_on_stderr() -> None:
    err = io.StringIO()
    refusal = {"type": "error", "code": "hotwords_unsupported", "message": "expected no hotwords"}

    Teller(io.StringIO(), err, json_lines=False).tell({**refusal, "fatal": False})

    assert err.getvalue() == "asr: expected no hotwords (hotwords_unsupported)\n"


def test_a_full_server_is_told_with_its_hint(recording: Path) -> None:
    def script(socket: ServerConnection) -> None:
        error = {"code": "overloaded", "message": "no room", "retry_after_ms": 4200, "fatal": True}
        say(socket, {"type": "error", **error})
        socket.close(1013)

    assert told(script, recording) == (
        1,
        "",
        "asr: no room (overloaded); try again in 5 s\n",
    )


def test_sound_that_is_lost_is_said_on_stderr() -> None:
    err = io.StringIO()

    Teller(io.StringIO(), err, json_lines=False).miss(Missing(3.0, 10.25))

    assert err.getvalue() == "asr: 7.2 s of sound are lost, from 3.0 s on\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '{"error": {"code": "loading", "message": "the model is loading"}}',
            "the model is loading (loading)",
        ),
        ("busy", "expected a stream from URL, got HTTP status 503"),
    ],
)
def test_a_refused_handshake_is_explained(recording: Path, body: str, expected: str) -> None:
    def refuse(socket: ServerConnection, _request: Request) -> Response:
        return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, body)

    status, _, err = told(lambda _socket: None, recording, process_request=refuse)

    assert (status, err) == (1, f"asr: {expected}\n")


def test_nobody_at_the_address_is_explained(recording: Path) -> None:
    with scripted(lambda _socket: None) as url:
        pass
    err = io.StringIO()

    status = run(command(url, recording), io.StringIO(), err)

    assert (status, err.getvalue()) == (1, f"asr: expected a server at {url}, got no answer\n")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.wav", None, "No such file or directory"),
        ("broken.wav", b"not a sound", "expected a file that decodes as audio"),
        ("empty.wav", b"", "expected"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    def script(socket: ServerConnection) -> None:
        say(socket, {"type": "ready"})
        socket.recv()

    def patient(socket: ServerConnection) -> None:
        try:
            script(socket)
        except ConnectionClosed:
            return

    status, out, err = told(patient, path)

    assert (status, out) == (1, "")
    assert err.startswith(f"asr: {path}: ")
    assert expected in err


def test_hotwords_are_told_before_the_first_sound(recording: Path) -> None:
    first: list[Any] = []

    def script(socket: ServerConnection) -> None:
        assert socket.request is not None
        assert "hotwords" not in socket.request.path
        say(socket, {"type": "ready"})
        first.append(json.loads(socket.recv()))
        take_until_stop(socket)
        say(socket, FINAL, {"type": "done"})

    out = io.StringIO()
    with scripted(script) as url:
        asked = replace(command(url, recording), hotwords=("Nguyen Van", "\u00d3 C"))
        assert run(asked, out, io.StringIO()) == 0

    assert first == [{"type": "configure", "hotwords": ["Nguyen Van", "\u00d3 C"]}]


def test_an_interrupt_asks_for_the_last_words(tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    long.write_bytes(wav_bytes(60.0))

    def script(socket: ServerConnection) -> None:
        say(socket, {"type": "ready"})
        socket.recv()
        signal.raise_signal(signal.SIGINT)
        take_until_stop(socket)
        say(socket, FINAL, {"type": "done"})

    assert told(script, long) == (0, "alpha bravo\n", "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:8000", "ws://host:8000/v1/stream?"),
        ("https://host/", "wss://host/v1/stream?"),
        ("https://host/asr", "wss://host/asr/v1/stream?"),
        ("ws://host/v1/stream", "ws://host/v1/stream?"),
    ],
)
def test_the_address_of_a_server_is_enough(url: str, expected: str) -> None:
    assert stream_url(url, DepthChoice()).startswith(expected)


def test_the_dial_is_part_of_the_address() -> None:
    url = stream_url("http://host", DepthChoice(0.5, 0.75, "skip"))

    assert url.endswith("?sample_rate=16000&drop=0.5&policy=skip&max_drop=0.75")


@pytest.mark.parametrize("url", ["host:8000", "ftp://host", "http://", ""])
def test_an_address_of_something_else_is_a_wrong_use(url: str) -> None:
    with pytest.raises(ParameterInvalid, match="expected a URL like http://"):
        stream_url(url, DepthChoice())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--drop", "1"], "expected drop to be 'auto' or a number in [0, 1)"),
        (["--url", "nowhere"], "expected a URL like http://127.0.0.1:8000, got 'nowhere'"),
    ],
)
def test_wrong_values_are_a_wrong_use(
    recording: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main(["stream", str(recording), *arguments]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["stream"], ["stream", "talk.wav", "--mic"]])
def test_either_a_file_or_the_microphone_is_streamed(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert "usage: asr stream" in capsys.readouterr().err
