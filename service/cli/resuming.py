"""A stream that outlives its connections: a server that stops, asks it to move, or is gone.

sound -> Resumption -> connection -> messages, in one stream time
^------------'  ends: at once elsewhere, or again after a while
"""

import asyncio
import json
import math
import random
import time
from collections.abc import AsyncIterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from service.cli.resume_state import MOVED, Message, Missing, Resumption

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
"""For a server to say goodbye; whoever has fallen silent does not."""
REFUSALS = frozenset({1003, 1007, 1008, 1009, 4400, 4401})
"""Asked again, the server would say no again."""
PASSING = frozenset({"draining", "loading"})
"""Errors of a server that goes or comes; another one may be there before it says."""
FIRST_REFUSED_STATUS, TRY_AGAIN = 400, frozenset({404, 408, 425, 429})
FIRST_FAULT_STATUS = 500
LOST = "the connection was lost before the last words came"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How a connection is sought that goes on.

    Args:
        spread_s: within which the first try is made: others have lost their server as well.
        first_s: before the second one; twice as long before each that follows.
        longest_s: between two tries.
        give_up_s: after which the stream fails, if no server has said anything about its sound.
        stalled_s: without a word about sound that was sent: then nobody is there, whatever the
            socket says.
    """

    spread_s: float = 0.2
    first_s: float = 0.5
    longest_s: float = 3.5
    give_up_s: float = 60.0
    stalled_s: float = 15.0

    def wait_s(self, num_tries: int, jitter: random.Random) -> float:
        """Give the time before another try, after so many that came to nothing."""
        if not num_tries:
            return jitter.uniform(0.0, self.spread_s)
        wait_s = min(self.longest_s, self.first_s * 2 ** (num_tries - 1))
        return wait_s * jitter.uniform(0.75, 1.25)


class Listener(Protocol):
    """Who hears of a stream."""

    def tell(self, message: Message) -> None:
        """Take a message of the server."""
        ...

    def miss(self, missing: Missing) -> None:
        """Learn that sound is lost."""
        ...

    def wait(self, reason: str) -> None:
        """Learn that nobody is there; words come later."""
        ...


class ResumingStream:
    """One stream, over as many connections as it takes.

    Args:
        url: of a stream, with its query.
        server: what messages call it.
        listener: told what comes.
        headers: of every handshake.
        greeting: sent first over each connection.
        patience: with servers that do not answer.
    """

    def __init__(
        self,
        url: str,
        server: str,
        listener: Listener,
        *,
        headers: Mapping[str, str] | None = None,
        greeting: Message | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.kept = Resumption()
        self._url = url
        self._server = server
        self._listener = listener
        self._headers = headers
        self._greeting = greeting
        self._patience = patience or Patience()
        self._jitter = random.Random()
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._has_ended = False
        self._num_tries = 0
        self._broken_at_s = math.inf
        self._failure = ""
        self._hint_s = 0.0

    async def run(self, packets: AsyncIterable[bytes]) -> None:
        """Send sound and hand on what is said, until the last word of it has come.

        Args:
            packets: of 16-bit samples at 16 kHz; first asked for once a server is there.

        Raises:
            ExceptionGroup: of a ConnectionError, when no server goes on, or of what the packets
                raised.
        """
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(self._hear(packets))
            while not await self._connection_is_last():
                await self._wait()
            hearing.cancel()

    async def _hear(self, packets: AsyncIterable[bytes]) -> None:
        await self._ready.wait()  # a file that plays before anybody listens would be behind
        async for packet in packets:
            self.kept.hear(packet)
            self._news.set()
        self._has_ended = True
        self._news.set()

    async def _connection_is_last(self) -> bool:
        """Hold one connection, or fail to; tell whether all has been said.

        Raises:
            ConnectionError: no other connection would do better.
        """
        self._failure, self._hint_s = "", 0.0
        query = urlencode(self.kept.opening(time.monotonic()))
        try:
            # No judgement of pongs: behind a backlog a healthy server may be slow to answer.
            socket = await connect(
                f"{self._url}&{query}",
                additional_headers=self._headers,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_timeout=None,
                compression=None,
            )
        except InvalidHandshake as error:
            self._fail_for_good_if(_is_refusal(error), _refusal(self._server, error))
        except OSError:  # nobody listens, no such host, no answer in time
            self._failure = f"expected a server at {self._server}, got no answer"
        else:
            async with socket:
                await self._converse(socket)
            self._fail_for_good_if(socket.close_code in REFUSALS, self._failure or LOST)
        self.kept.lost()
        return self.kept.done_reason is not None and self.kept.done_reason not in MOVED

    def _fail_for_good_if(self, is_final: bool, reason: str) -> None:  # noqa: FBT001 the name asks
        self._failure = reason
        if is_final:
            raise ConnectionError(reason)

    async def _converse(self, socket: ClientConnection) -> None:
        sending = asyncio.create_task(self._send(socket))
        try:
            # Whether the last word came, the messages say.
            with suppress(ConnectionClosed, TimeoutError):
                while True:
                    self._take(json.loads(await self._next(socket)))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _next(self, socket: ClientConnection) -> str | bytes:
        while True:
            try:
                async with asyncio.timeout(self._patience.stalled_s):
                    return await socket.recv()
            except TimeoutError:
                if not self.kept.is_open or self.kept.awaits_answer:
                    raise

    def _take(self, message: Message) -> None:
        covered_s = self.kept.covered_s
        missing = self.kept.take(message, time.monotonic())
        if missing is not None:
            self._listener.miss(missing)
        if message["type"] == "ready":
            self._ready.set()
        if message["type"] == "error" and message.get("fatal", True):
            self._failure = in_words(message)
            if message["code"] not in PASSING:
                self._hint_s = (message.get("retry_after_ms") or 0) / 1000
        # Only now: a server that lets everybody in and falls over is left alone for a while.
        if self.kept.covered_s > covered_s:
            self._num_tries, self._broken_at_s = 0, math.inf
        self._listener.tell(message)
        self._news.set()

    async def _send(self, socket: ClientConnection) -> None:
        while not self.kept.is_open:
            await self._something()
        with suppress(ConnectionClosed):
            if self._greeting is not None:
                await socket.send(json.dumps(self._greeting))
            while not (self._has_ended and self.kept.all_sent):
                packet = self.kept.packet()
                if packet is not None:
                    await socket.send(packet)
                elif self.kept.is_slow:
                    await socket.close()
                    return
                else:
                    await self._something()
            await socket.send(json.dumps({"type": "stop"}))

    async def _something(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _wait(self) -> None:
        """Let time pass before the next try, more with each.

        Raises:
            ConnectionError: it has been too long.
        """
        patience, now_s, reason = self._patience, time.monotonic(), self._failure or LOST
        if not self._ready.is_set():  # there never was a server
            raise ConnectionError(reason)
        wait_s = max(self._hint_s, patience.wait_s(self._num_tries, self._jitter))
        self._broken_at_s = min(self._broken_at_s, now_s)
        if now_s + wait_s - self._broken_at_s > patience.give_up_s:
            raise ConnectionError(f"{reason}; no server went on within {patience.give_up_s:g} s")
        if self._num_tries == 1:  # the next one was not there at once, as it is behind a move
            self._listener.wait(reason)
        self._num_tries += 1
        await asyncio.sleep(wait_s)


def in_words(message: Message) -> str:
    """Write down an error message of the server."""
    retry_ms = message.get("retry_after_ms")
    again = f"; try again in {math.ceil(retry_ms / 1000)} s" if retry_ms else ""
    return f"{message['message']} ({message['code']}){again}"


def _is_refusal(error: InvalidHandshake) -> bool:
    if not isinstance(error, InvalidStatus):
        return True
    status = error.response.status_code
    return FIRST_REFUSED_STATUS <= status < FIRST_FAULT_STATUS and status not in TRY_AGAIN


def _refusal(server: str, error: InvalidHandshake) -> str:
    if not isinstance(error, InvalidStatus):
        return f"expected a server at {server}, got something else"
    status = error.response.status_code
    try:
        problem = json.loads(error.response.body or b"")["error"]
        return f"{problem['message']} ({problem['code']})"
    except (ValueError, KeyError, TypeError):
        return f"expected a stream from {server}, got HTTP status {status}"
