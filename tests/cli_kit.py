"""What tests of `asr stream` stand on: servers that play a script, and a client that hurries."""

import io
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.server import Server, ServerConnection, serve

from service.cli.resuming import Patience
from service.cli.stream import StreamCommand, run
from service.engine.base import DepthChoice

Script = Callable[[ServerConnection], None]
HASTE = Patience(spread_s=0.0, first_s=0.01, longest_s=0.02, give_up_s=0.1, stalled_s=0.3)
PARTIAL = {"type": "partial", "text": "alp", "stable_chars": 0}
FINAL = {"type": "final", "text": "alpha bravo"}


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
