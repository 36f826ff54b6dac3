import io
import json
import logging
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from service.cli import main
from service.cli.resuming import Patience
from service.cli.resumption import Missing
from service.cli.stream import StreamCommand, Teller, run, stream_url
from service.engine.base import DepthChoice
from service.errors import ParameterInvalid
from tests.service_kit import wav_bytes

HASTE = Patience(spread_s=0.0, first_s=0.01, longest_s=0.02, give_up_s=0.1, stalled_s=0.3)
Script = Callable[[ServerConnection], None]
PARTIAL = {"type": "partial", "text": "alp", "stable_chars": 0}
FINAL = {"type": "final", "text": "alpha bravo"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_logger() -> Generator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav_bytes(0.25))
    return path


@contextmanager
def scripted(script: Script, **options: Any) -> Generator[str]:
    """Serve a script for each connection, in a thread, and give the server's address."""
    server: Server
    with serve(script, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def say(socket: ServerConnection, *messages: dict[str, Any]) -> None:
    for message in messages:
        socket.send(json.dumps(message))


def take_until_stop(socket: ServerConnection) -> bytes:
    pcm = b""
    for message in socket:
        if isinstance(message, str):
            assert json.loads(message) == {"type": "stop"}
            break
        pcm += message
    return pcm


def command(url: str, file: Path | None, *, json_lines: bool = False) -> StreamCommand:
    return StreamCommand(url, file, DepthChoice(), json_lines)


def told(script: Script, recording: Path, **options: Any) -> tuple[int, str, str]:
    """The exit status, and what is written to a pipe, for a server that plays a script."""
    out, err = io.StringIO(), io.StringIO()
    with scripted(script, **options) as url:
        status = run(command(url, recording), out, err, HASTE)
    return status, out.getvalue(), err.getvalue().replace(url, "URL")


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


def test_a_stream_that_nobody_goes_on_with_is_a_failure(recording: Path) -> None:
    def script(socket: ServerConnection) -> None:
        say(socket, {"type": "ready"})
        socket.close(1011)

    status, out, err = told(script, recording)

    lost = "the connection was lost before the last words came"
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"asr: {lost}; trying again",
        f"asr: {lost}; no server went on within 0.1 s",
    ]


def test_a_stream_goes_on_where_its_last_final_ended(recording: Path) -> None:
    paths: list[str] = []
    received: list[bytes] = []

    def script(socket: ServerConnection) -> None:
        assert socket.request is not None
        paths.append(socket.request.path)
        say(socket, {"type": "ready", "seq": 4 * len(received)})
        received.append(take_until_stop(socket))
        if len(received) == 1:
            final = {"type": "final", "text": "alpha", "utt": 0, "seq": 2, "end": 0.1}
            say(socket, final, {"type": "lag", "seq": 3, "end": 0.2, "accepted": 0.1})
            socket.close(1011)
        else:
            final = {"type": "final", "text": "bravo", "utt": 1, "seq": 5, "end": 0.25}
            say(socket, final, {"type": "done", "seq": 6, "reason": "stop", "end": 0.25})

    assert told(script, recording) == (0, "alpha\nbravo\n", "")
    assert paths[1].endswith("&resumes=true&start_s=0.1&utt=1&seq=4&after=lost")
    assert received == [wav_bytes(0.25)[44:], wav_bytes(0.25)[44 + 3_200 :]]


def test_a_server_that_asks_for_a_move_is_left_without_a_word(recording: Path) -> None:
    paths: list[str] = []

    def script(socket: ServerConnection) -> None:
        assert socket.request is not None
        paths.append(socket.request.path)
        say(socket, {"type": "ready"})
        if len(paths) == 1:
            socket.recv()
            leaving = {"type": "warning", "code": "moving", "start": 0.0, "end": 0.0}
            say(socket, leaving, {"type": "done", "reason": "move", "end": 0.1})
            socket.close(1001)
        else:
            take_until_stop(socket)
            say(socket, FINAL, {"type": "done", "reason": "stop"})

    assert told(script, recording) == (0, "alpha bravo\n", "")
    assert "&start_s=0.1&" in paths[1]
    assert "&after=move&moved_s=0." in paths[1]


def test_a_server_that_falls_silent_is_left(tmp_path: Path) -> None:
    talk = tmp_path / "long.wav"
    talk.write_bytes(wav_bytes(1.2))
    received: list[bytes] = []

    def script(socket: ServerConnection) -> None:
        say(socket, {"type": "ready", "limits": {"max_buffer_s": 10.0}})
        if not received:
            received.append(b"".join(one for one in socket if isinstance(one, bytes)))
        else:
            received.append(take_until_stop(socket))
            say(socket, FINAL, {"type": "done", "reason": "stop"})

    assert told(script, talk) == (0, "alpha bravo\n", "")
    assert len(received[0]) >= 32_000
    assert received[1] == wav_bytes(1.2)[44:]


def test_a_refusal_on_the_way_is_the_end(recording: Path) -> None:
    num_opened: list[None] = []

    def script(socket: ServerConnection) -> None:
        num_opened.append(None)
        if len(num_opened) > 1:
            error = {"code": "depth_refused", "message": "too deep", "fatal": True}
            say(socket, {"type": "error", **error})
            socket.close(4400)
        else:
            say(socket, {"type": "ready"})
            socket.close(1011)

    assert told(script, recording) == (1, "", "asr: too deep (depth_refused)\n")
    assert len(num_opened) == 2


def test_a_server_whose_numbers_do_not_go_on_is_not_believed(recording: Path) -> None:
    def script(socket: ServerConnection) -> None:
        say(socket, {"type": "ready"}, {"type": "final", "text": "alpha", "utt": 3, "end": 0.1})
        take_until_stop(socket)

    status, out, err = told(script, recording)

    assert (status, out, err) == (1, "", "asr: expected utt 0 to follow, got 3\n")


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
