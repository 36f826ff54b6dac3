"""A started server on the fake engine: what only a process and real sockets can show."""

import json
import socket
from collections.abc import Generator
from contextlib import closing, contextmanager
from http.client import HTTPConnection

import pytest

from tests.e2e.server_process import Server, started
from tests.service_kit import PATIENCE_S, wav_bytes

pytestmark = pytest.mark.e2e


def multipart(audio: bytes) -> tuple[bytes, dict[str, str]]:
    """A body as curl -F sends it."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return head + audio + b"\r\n--b--\r\n", headers


def receive(connection: socket.socket, num_bytes: int) -> bytes:
    """Receive so many bytes, or all there are until the other side closes."""
    received = b""
    while len(received) < num_bytes and (piece := connection.recv(num_bytes - len(received))):
        received += piece
    return received


@contextmanager
def half_sent(server: Server, audio: bytes) -> Generator[tuple[HTTPConnection, bytes]]:
    """Send the head and half of a file; give the connection and the rest."""
    with closing(server.connect()) as connection:
        connection.putrequest("POST", "/transcribe?format=text")
        connection.putheader("Content-Length", str(len(audio)))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        # The server says this when it begins to read the body, so the request is in.
        go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert receive(connection.sock, len(go_on)) == go_on
        half = len(audio) // 2
        connection.send(audio[:half])
        yield connection, audio[half:]


def test_a_recording_is_transcribed_and_the_process_ends_well() -> None:
    with started(engine="fake") as server:
        body, headers = multipart(wav_bytes(2.0))

        status, answer = server.ask("POST", "/transcribe?drop=0.5", body, headers)
        server.terminate()

        assert status == 200
        assert json.loads(answer)["text"] == "um bravo um delta"
        assert server.process.wait(PATIENCE_S) == 0


def test_a_running_request_finishes_after_sigterm_while_new_ones_are_refused() -> None:
    with started(engine="fake") as server, half_sent(server, wav_bytes(20.0)) as (connection, rest):
        server.terminate()
        server.wait_for_line("stopping: running requests have")
        ready = server.ask("GET", "/readyz")
        live = server.ask("GET", "/livez")
        late = server.ask("POST", "/transcribe", wav_bytes(1.0))
        connection.send(rest)
        answer = connection.getresponse()

        assert (ready[0], json.loads(ready[1])["reason"]) == (503, "draining")
        assert live[0] == 200
        assert (late[0], json.loads(late[1])["error"]["code"]) == (503, "draining")
        assert answer.status == 200
        assert len(answer.read().split()) == 40
        assert server.process.wait(PATIENCE_S) == 0


def test_a_request_that_outlasts_the_grace_is_told_and_the_process_ends_well() -> None:
    with (
        started(engine="fake", shutdown_grace_s="0.05") as server,
        half_sent(server, wav_bytes(20.0)) as (connection, _),
    ):
        server.terminate()
        answer = connection.getresponse()

        assert answer.status == 503
        assert json.loads(answer.read())["error"]["code"] == "draining"
        assert server.process.wait(PATIENCE_S) == 0


def test_an_upload_beyond_the_cap_is_answered_also_to_clients_that_send_first() -> None:
    with started(engine="fake", max_upload_bytes="1000") as server:
        audio = wav_bytes(100.0)

        declared = server.ask("POST", "/transcribe", audio)
        chunked = server.ask(
            "POST",
            "/transcribe",
            (audio[at : at + 65_536] for at in range(0, len(audio), 65_536)),
        )
        after = server.ask("GET", "/readyz")

    for status, answer in (declared, chunked):
        assert (status, json.loads(answer)["error"]["code"]) == (413, "upload_too_large")
    assert after[0] == 200


def test_a_client_that_dribbles_is_answered_408() -> None:
    settings = {"upload_grace_s": "0.1", "upload_min_bytes_per_s": "1e6"}
    with started(engine="fake", **settings) as server, server.open_socket() as dribbling:
        dribbling.sendall(b"POST /transcribe HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\nR")
        answer = b""
        while not answer.endswith(b"}}"):
            answer += dribbling.recv(4096)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"upload_too_slow" in answer


def test_a_socket_that_never_asks_is_closed() -> None:
    with started(engine="fake", header_timeout_s="0.1") as server, server.open_socket() as idle:
        assert idle.recv(1) == b""


def test_a_client_that_hangs_up_leaves_the_server_unhurt() -> None:
    with started(engine="fake", fake_realtime_factor="0.01") as server:
        for _ in range(5):
            with half_sent(server, wav_bytes(60.0)) as (connection, rest):
                connection.send(rest)

        status, answer = server.ask("POST", "/transcribe?format=text", wav_bytes(2.0))

    assert (status, answer) == (200, b"alpha bravo charlie delta\n")
