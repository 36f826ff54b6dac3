"""`WS /v1/stream`: live audio in, captions out; how a stream is admitted and how it ends."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from service.api.accounts import StreamAccount, outcome_of
from service.api.asyncapi import asyncapi_document
from service.api.entrance import caller_of
from service.api.models import choice_for_model
from service.api.problems import INTERNAL_CLOSE_CODE, INTERNAL_STATUS, STATUS, close_code_of
from service.api.races import unless
from service.api.request_ids import request_id_of
from service.api.stream_connection import Connection
from service.api.stream_dialect import Dialect, StreamLimits, Welcome
from service.api.stream_native import NativeDialect
from service.api.tiers import Privileges
from service.errors import ClientGone, EngineError, ServiceError, StreamingUnsupported, Unavailable
from service.metrics import Metrics
from service.scheduling.admission import Places
from service.scheduling.clock import Clock
from service.scheduling.files import Transcriber
from service.scheduling.hotwords import expect_support
from service.scheduling.live import LiveScheduler
from service.scheduling.moves import Moves
from service.streaming.backing import Backing
from service.streaming.commands import StreamConfig
from service.streaming.events import ClosingReason
from service.streaming.inbox import Inbox
from service.streaming.measures import ENDPOINT, StreamMeasures
from service.streaming.outbox import Outbox
from service.streaming.pace import Pace
from service.streaming.pcm import BYTES_PER_SAMPLE
from service.streaming.session import Session

logger = logging.getLogger(__name__)

CLOSE_S = 1.0
"""For the last message, to a client that may not read."""
_CLOSE_CODES: dict[ClosingReason, int] = {
    "stop": 1000,
    "drain": 1001,
    "move": 1001,
    "idle": 1001,
}
_FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """What every stream works with; all dialects come in by `serve`, which asks who it is.

    Args:
        transcriber: owns the engine and the door.
        scheduler: runs the streams.
        sockets: places for connections, whether they speak or not.
        privileges: what a caller's tier is worth.
        limits: of one stream.
        metrics: counts streams.
        clock: measures them.
        two_pass: whether finals are second passes where there is room.
        moves: asks streams to go on elsewhere.
    """

    transcriber: Transcriber
    scheduler: LiveScheduler
    sockets: Places
    privileges: Privileges
    limits: StreamLimits
    metrics: Metrics
    clock: Clock
    two_pass: bool = False
    moves: Moves = field(default_factory=Moves)

    async def serve(self, websocket: WebSocket, dialect: Dialect) -> None:
        """Talk to one client from the handshake to the close."""
        reason = ClientGone.code  # of a stream that is cancelled
        account = StreamAccount(dialect.name, websocket.scope, self.clock())
        # Never echoed: what else a client offers may be its key.
        offered = dialect.subprotocol in websocket.scope.get("subprotocols", [])
        try:
            await websocket.accept(dialect.subprotocol if offered else None)
            reason = await self._serve_accepted(websocket, dialect, account)
        finally:
            self.metrics.streams.total.labels(dialect.name, reason).inc()
            account.log(reason, self.clock())

    async def _serve_accepted(
        self, websocket: WebSocket, dialect: Dialect, account: StreamAccount
    ) -> str:
        try:
            reason = await self._converse(websocket, dialect, account)
        except ClientGone as error:
            return error.code
        except ServiceError as error:
            if isinstance(error, Unavailable):
                self.metrics.requests.admission_rejected.labels(error.code).inc()
            if not isinstance(error, EngineError):  # the session has counted what that cost it
                self._count(STATUS[type(error)])
            await _close(websocket, close_code_of(error), dialect.error(error))
            return error.code
        # The client is owed a close with a code, whatever went wrong in us.
        except Exception:
            logger.exception("a stream failed")
            self._count(INTERNAL_STATUS)
            await _close(websocket, INTERNAL_CLOSE_CODE, dialect.error(None))
            return _FAILED
        await _close(websocket, _CLOSE_CODES[reason])
        return reason

    def _count(self, status: int) -> None:
        # Utterances are the requests of a stream; one that was refused, or sent away, is one as well.
        self.metrics.requests.outcomes.labels(ENDPOINT, outcome_of(status)).inc()

    async def _converse(
        self, websocket: WebSocket, dialect: Dialect, account: StreamAccount
    ) -> ClosingReason:
        admission, privileges = self.transcriber.admission, self.privileges
        caller = caller_of(websocket.scope)
        config = dialect.config(websocket.query_params)

        def take_place() -> None:
            privileges.check_place(caller)
            place.enter_context(admission.streams.hold())
            active = self.metrics.streams.active.labels(dialect.name)
            place.enter_context(active.track_inprogress())
            if dialect.moved.after is not None:
                self.metrics.streams.moves.labels(dialect.moved.after).inc()

        with admission.enter(admission.streams), self.sockets.hold(), ExitStack() as place:
            privileges.check_place(caller)
            choice = choice_for_model(config.model, config.choice, self.transcriber.info)
            privileges.check_depth(caller, choice)
            expect_support(config.hotwords, self.transcriber.info)
            config = replace(config, choice=choice)
            session, inbox, outbox = self._open_session(config)
            bytes_per_s = BYTES_PER_SAMPLE[config.encoding] * config.rate_hz
            connection = Connection(
                websocket,
                dialect,
                session,
                inbox,
                outbox,
                Pace(bytes_per_s, self.limits.burst_s, self.limits.max_speed),
                self.limits,
                self.clock,
                take_place=take_place,
                check_depth=lambda choice: privileges.check_depth(caller, choice),
                wake=self.scheduler.wake,
                account=account,
                choice=config.choice,
                heard_at_s=self.clock(),
                moved=dialect.moved,
            )
            welcome = Welcome(
                secrets.token_hex(8),
                request_id_of(websocket.scope),
                self.transcriber.info,
                config,
                session.dial.told,
                self.limits,
            )
            with self.scheduler.open(session), self.moves.open(connection):
                return await unless(
                    connection.write(dialect.welcome(welcome)),
                    connection.read(),
                    connection.watch_idle(),
                    connection.watch_drain(admission),
                    connection.watch_moves(),
                )

    def _open_session(self, config: StreamConfig) -> tuple[Session, Inbox, Outbox]:
        info, outbox = self.transcriber.info, Outbox()
        if not info.chunk_s:
            raise StreamingUnsupported(
                f"expected a model that hears live streams, got {info.name!r}, which takes files alone"
            )
        bytes_per_s = BYTES_PER_SAMPLE[config.encoding] * config.rate_hz
        inbox = Inbox(round(self.limits.max_buffer_s * bytes_per_s))
        backing = Backing(
            self.transcriber.engine,
            info,
            self.transcriber.decide,
            StreamMeasures(self.metrics, info),
            self.two_pass,
        )
        session = Session(config, inbox, outbox, backing)
        return session, inbox, outbox


def stream_router(
    route: StreamRoute, new_dialect: Callable[[], Dialect] = NativeDialect
) -> APIRouter:
    """Make the route and the one that describes it."""
    router = APIRouter(tags=["streaming"])
    document = asyncapi_document()

    @router.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        await route.serve(websocket, new_dialect())

    @router.get("/v1/asyncapi.json", summary="The messages of WS /v1/stream, as AsyncAPI")
    async def asyncapi() -> dict[str, object]:
        """Give the AsyncAPI document; it is made of the classes that write the messages."""
        return document

    return router


async def _close(websocket: WebSocket, code: int, last: str | None = None) -> None:
    # A client that is gone, or does not read, cannot be told.
    with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
        async with asyncio.timeout(CLOSE_S):
            if last is not None:
                await websocket.send_text(last)
    with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
        async with asyncio.timeout(CLOSE_S):
            await websocket.close(code)
