"""One client of a stream: what it sends goes into the inbox, what is in the outbox goes to it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from service.api.accounts import StreamAccount
from service.api.stream_dialect import Dialect, Keepalive, Moved, StreamLimits
from service.engine.base import DepthChoice
from service.errors import CallerError, ClientGone, ClientTooSlow, DepthNotNow, MessagesRefused
from service.scheduling.admission import Admission
from service.scheduling.clock import Clock
from service.streaming.commands import Configure, Leave, Marker, Packet, Stop
from service.streaming.events import ClosingReason, Done, Leaving, LeavingReason
from service.streaming.inbox import Inbox
from service.streaming.markers import too_many_markers
from service.streaming.outbox import Outbox
from service.streaming.pace import Pace
from service.streaming.session import Session

MAX_USELESS_FRAMES = 100
"""Empty frames and text that is none of the messages, of one stream."""
ROOM_POLL_S = 0.02
"""Between two looks whether an inbox has room again."""
MOVE_S = 30.0
"""Time for a pause to come, of a stream that is asked to move: longer than any utterance."""
MUTE_S = 2.0
"""Without a packet, after which a stream that should end counts as one that pauses."""


@dataclass(slots=True, eq=False)
class Connection:
    """One conversation; `read`, `write` and the watches run side by side until one ends.

    Args:
        take_place: takes one of the places of streams; called with the first audio, so that
            sockets that are only open take none.
        check_depth: refuses a depth that this client may not have now.
        wake: tells the scheduler that something came in.
        account: follows what the client is told, for the log.
        choice: the depth that holds now.
        heard_at_s: when the client last said something; at first when it came.
        moved: what it says of its stream's life elsewhere.
    """

    websocket: WebSocket
    dialect: Dialect
    session: Session
    inbox: Inbox
    outbox: Outbox
    pace: Pace
    limits: StreamLimits
    clock: Clock
    take_place: Callable[[], None]
    check_depth: Callable[[DepthChoice], None]
    wake: Callable[[], None]
    account: StreamAccount
    choice: DepthChoice
    heard_at_s: float
    moved: Moved = Moved()  # noqa: RUF009 frozen
    heard_anything: bool = False
    speaking: bool = False
    stopping: bool = False
    num_useless: int = 0
    leaving: LeavingReason | None = None
    opened_at_s: float = field(init=False)
    packet_at_s: float = field(init=False)
    asked_to_move: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.opened_at_s = self.packet_at_s = self.heard_at_s

    @property
    def can_move(self) -> bool:
        """Whether it holds a place that its client would take elsewhere."""
        ending = self.stopping or self.leaving is not None or self.asked_to_move.is_set()
        return self.moved.resumes and self.speaking and not ending

    @property
    def since_move_s(self) -> float | None:
        """Seconds since its last move, which may have brought it here; None if it never moved."""
        since_s = self.moved.since_s
        return None if since_s is None else since_s + self.clock() - self.opened_at_s

    @property
    def cost(self) -> float:
        """Operations for each second of its audio."""
        return self.session.flops_per_s

    def ask_to_move(self) -> None:
        """Have it end at its next pause."""
        self.asked_to_move.set()

    async def write(self, welcome: str) -> ClosingReason:
        """Send until all is told, and give the reason for which the stream ended.

        Raises:
            ClientTooSlow: the client does not read.
            ServiceError: the stream has failed.
        """
        await self._send(welcome)
        while True:
            event = await self.outbox.take()
            self.account.told(event)
            await self._send(self.dialect.event(event))
            if isinstance(event, Done):
                return event.reason

    async def read(self) -> NoReturn:
        """Take what the client sends.

        Raises:
            ClientGone: it has left.
            Overloaded: its first audio found no place.
            MessagesRefused: too much of it was of no use.
        """
        while True:
            message = await self.websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise ClientGone("the client left")
            self.heard_at_s = self.clock()
            self.heard_anything = True
            pcm = message.get("bytes")
            if pcm:
                await self._take_audio(pcm)
            elif pcm is not None:
                self._refuse(None)
            else:
                self._obey(message.get("text") or "")

    async def watch_idle(self) -> NoReturn:
        """End a stream whose client says nothing, with a final.

        Raises:
            ClientTooSlow: it has never said anything.
        """
        limits = self.limits
        while True:
            limit_s = limits.idle_s if self.heard_anything else limits.first_message_s
            left_s = self.heard_at_s + limit_s - self.clock()
            if left_s > 0:
                # A first message that comes meanwhile puts the other limit in place.
                await asyncio.sleep(min(left_s, limits.idle_s))
                continue
            if not self.heard_anything:
                raise ClientTooSlow(f"expected a message within {limit_s:g} s, got none")
            self._stop(Stop("idle"))
            self.heard_at_s = self.clock()

    async def watch_drain(self, admission: Admission) -> NoReturn:
        """End the stream at its next pause when the service is told to stop.

        Raises:
            Draining: the grace is over.
        """
        await admission.until_draining()
        await self._leave("drain", self.limits.leave_s)
        await admission.until_cut_off()

    async def watch_moves(self) -> NoReturn:
        """End the stream at its next pause when it is asked to move."""
        while True:
            await self.asked_to_move.wait()
            self.asked_to_move.clear()
            await self._leave("move", MOVE_S)

    async def _leave(self, reason: LeavingReason, patience_s: float) -> None:
        if self.stopping or self.leaving == "drain":
            return
        self.leaving = reason
        self.outbox.put([Leaving(reason, self.session.told_s, patience_s)])
        self.inbox.put(Leave(reason))
        self.wake()
        deadline_s = self.clock() + patience_s
        # The session ends by itself where somebody pauses; where no sound comes it cannot know.
        while (  # noqa: ASYNC110 every packet puts it off
            left_s := min(deadline_s, self.packet_at_s + MUTE_S) - self.clock()
        ) > 0:
            await asyncio.sleep(left_s)
        self._stop(Stop(reason))

    async def _send(self, text: str) -> None:
        try:
            async with asyncio.timeout(self.limits.reader_s):
                await self.websocket.send_text(text)
        except TimeoutError as error:
            raise ClientTooSlow(
                f"expected a client that reads within {self.limits.reader_s:g} s, got none"
            ) from error
        # RuntimeError: the connection was closed below us, for a frame that was too big or broken.
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ClientGone("the client left") from error

    async def _take_audio(self, pcm: bytes) -> None:
        if self.stopping:
            return
        if not self.speaking:
            self.take_place()
            self.speaking = True
        wait_s = self.pace.took(len(pcm), self.clock())
        if self.inbox.full and not self.pace.bursting:
            self.inbox.drop(len(pcm), self.clock())
            return
        while self.inbox.full:  # noqa: ASYNC110 it is emptied on another thread
            # The socket is not read meanwhile, so the sender comes to wait as well.
            await asyncio.sleep(ROOM_POLL_S)
        if self.stopping:  # a drain came meanwhile; nothing is heard behind a stop
            return
        self.packet_at_s = self.clock()
        self.inbox.put(Packet(pcm, self.packet_at_s))
        self.wake()
        if wait_s:
            await asyncio.sleep(wait_s)

    def _obey(self, text: str) -> None:
        try:
            command = self.dialect.command(text, self.choice)
            if isinstance(command, Configure) and command.choice is not None:
                self.session.dial.check(command.choice)
                self.check_depth(command.choice)
        except CallerError as error:
            self._refuse(error)
            return
        except DepthNotNow as error:  # of use at another time, so it is not held against the client
            self.outbox.refuse(error)
            return
        if isinstance(command, Stop):
            self._stop(command)
        elif not isinstance(command, Keepalive) and not self.stopping:
            if isinstance(command, Configure):
                self.choice = command.choice or self.choice
            if isinstance(command, Marker) and self.session.markers.full:
                self._refuse(too_many_markers())
                return
            if self.inbox.full and isinstance(command, Marker):
                return  # it would wait behind everything else, and there may be any number of them
            self.inbox.put(command)
            self.wake()

    def _stop(self, command: Stop) -> None:
        if not self.stopping:
            self.stopping = True
            self.inbox.put(command)
            self.wake()

    def _refuse(self, error: CallerError | None) -> None:
        self.num_useless += 1
        if self.num_useless > MAX_USELESS_FRAMES:
            raise MessagesRefused(
                f"expected at most {MAX_USELESS_FRAMES} frames of no use, got more"
            )
        if error is not None:
            self.outbox.refuse(error)
