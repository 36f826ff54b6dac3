"""Load on a running service: files by REST, live streams in real time, or both.

    locust --headless --host http://127.0.0.1:8000 -u 16 -r 4 -t 60s [FileUser | StreamUser]
    locust --headless --shape burst -u 32 -t 3m --audio FOLDER --drop auto StreamUser

Without a user's name both kinds run, four streams to a file. A stream's packets leave by an absolute
clock: a server that makes its clients wait does not get an easier load. `docs/load.md` says how to
read the result.
"""

import itertools
import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gevent
import websocket
from locust import FastHttpUser, LoadTestShape, User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from websocket import WebSocketException

from benchmarks.load import AUDIO, SHAPES, StreamEvents, as_wav, packets, read_clips, users_at

CLOSING_S = 15.0
"""Time that finals have once everything is said."""
OVERLOADED = 503
RUN_S = 60.0


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add what a load of speech needs; each option is an environment variable too."""
    parser.add_argument(
        "--audio", env_var="LOAD_AUDIO", default=str(AUDIO), help="folder of speech"
    )
    parser.add_argument("--drop", env_var="LOAD_DROP", default="auto", help="auto, or in [0, 1)")
    parser.add_argument("--api-key", env_var="LOAD_API_KEY", default="", help="sent as Bearer")
    parser.add_argument(
        "--stream-seconds", env_var="LOAD_STREAM_SECONDS", type=float, default=30.0,
        help="length of one live stream; then it begins anew",
    )  # fmt: skip
    parser.add_argument(
        "--pause", env_var="LOAD_PAUSE", type=float, default=1.0, help="seconds between clips"
    )
    parser.add_argument(
        "--shape", env_var="LOAD_SHAPE", choices=sorted(SHAPES), default="steady",
        help="how users come and go over the run time; -u is the peak",
    )  # fmt: skip


@events.init.add_listener
def read_speech(environment: Environment, **_: object) -> None:
    """Read the audio once, before anybody speaks."""
    options = environment.parsed_options
    if options is not None:
        speech: Any = environment  # what a load test keeps for its users, it keeps there
        speech.clips = read_clips(Path(options.audio))
        speech.files = [as_wav(samples) for samples in speech.clips]


class Shape(LoadTestShape):
    """Users over time: steady, ramp, step or burst, up to -u, until -t has passed."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Give how many users there should be now."""
        assert self.runner is not None, "locust sets it before it asks"
        options = self.runner.environment.parsed_options
        most = options.num_users or 1
        users = users_at(options.shape, self.get_run_time(), options.run_time or RUN_S, most)
        return None if users is None else (users, options.spawn_rate or most)


class FileUser(FastHttpUser):
    """Sends files, one after the other."""

    weight = 1
    wait_time = constant(0.5)
    _places = itertools.count()

    @task
    def transcribe(self) -> None:
        """Send one file and wait for its text; a refusal is a failure that says so."""
        environment: Any = self.environment
        file = environment.files[next(self._places) % len(environment.files)]
        options: Namespace = environment.parsed_options
        with self.client.post(
            f"/transcribe?{urlencode({'drop': options.drop})}",
            data=file,
            headers={"Content-Type": "application/octet-stream", **_key(options)},
            name="POST /transcribe",
            catch_response=True,
        ) as response:
            if response.status_code == OVERLOADED:
                response.failure("refused")


class StreamUser(User):
    """Speaks in real time, one stream after the other."""

    weight = 4
    wait_time = constant(1)
    _places = itertools.count()

    @task
    def speak(self) -> None:
        """Speak one stream to its end, and say how it ended."""
        environment: Any = self.environment
        options: Namespace = environment.parsed_options
        said = packets(
            environment.clips,
            next(self._places),
            pause_s=options.pause,
            seconds=options.stream_seconds,
        )
        started_s = time.monotonic()
        told = StreamEvents(started_s, len(said))
        try:
            self._converse(said, told, options)
        except (OSError, WebSocketException) as error:
            told.log.fail(type(error).__name__)
        outcome = told.outcome
        self._fire("ws stream", time.monotonic() - started_s, "" if outcome == "ok" else outcome)

    def _converse(self, said: list[bytes], told: StreamEvents, options: Namespace) -> None:
        address = str(self.host).replace("http", "ws", 1).rstrip("/")
        socket = websocket.create_connection(
            f"{address}/v1/stream?{urlencode({'drop': options.drop})}",
            timeout=CLOSING_S,
            header=_key(options),
        )
        hearing = gevent.spawn(self._hear, socket, told)
        try:
            for number, packet in enumerate(said):
                gevent.sleep(max(0.0, told.log.due_s(number) - time.monotonic()))
                if hearing.dead:
                    break
                socket.send_binary(packet)
            if not hearing.dead:
                socket.send(json.dumps({"type": "stop"}))
            hearing.join(timeout=CLOSING_S)
            if not hearing.dead:
                told.log.fail("finals did not come")
        finally:
            hearing.kill()
            socket.shutdown()

    def _hear(self, socket: websocket.WebSocket, told: StreamEvents) -> None:
        try:
            while True:
                opcode, data = socket.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    code = int.from_bytes(data[:2], "big")
                    if code != websocket.STATUS_NORMAL:
                        told.log.fail(str(code))
                    return
                for event in told.take(json.loads(data), time.monotonic()):
                    self._fire(event.name, event.took_s)
        except (OSError, WebSocketException) as error:
            told.log.fail(type(error).__name__)

    def _fire(self, name: str, took_s: float, failed: str = "") -> None:
        self.environment.events.request.fire(
            request_type="WS",
            name=name,
            response_time=1000 * took_s,
            response_length=0,
            exception=RuntimeError(failed) if failed else None,
            context=self.context(),
        )


def _key(options: Namespace) -> dict[str, str]:
    return {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
