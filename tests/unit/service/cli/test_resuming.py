"""`asr stream` over servers that stop, ask it to move, fall silent or are not what they were."""

from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection

from tests.cli_kit import FINAL, say, take_until_stop, told
from tests.service_kit import wav_bytes


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav_bytes(0.25))
    return path


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


@pytest.mark.parametrize(("code", "status"), [("loading", 0), ("overloaded", 1)])
def test_a_full_server_is_left_alone_and_one_that_comes_up_is_asked_again(
    recording: Path, code: str, status: int
) -> None:
    num_opened: list[None] = []

    def script(socket: ServerConnection) -> None:
        num_opened.append(None)
        if len(num_opened) == 2:
            say(socket, {"type": "error", "code": code, "message": "no", "retry_after_ms": 9_000})
            socket.close(1013)
            return
        say(socket, {"type": "ready"})
        if len(num_opened) == 1:
            socket.close(1011)
        else:
            take_until_stop(socket)
            say(socket, FINAL, {"type": "done", "reason": "stop"})

    assert told(script, recording)[0] == status


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
