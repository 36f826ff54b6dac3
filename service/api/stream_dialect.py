"""The seam between a stream and the way its client talks; the native dialect is the first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from service.engine.base import DepthChoice, ModelInfo, PlanInUse
from service.errors import ServiceError
from service.streaming.commands import Command, StreamConfig
from service.streaming.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What one stream may take up.

    Args:
        max_frame_bytes: of one WebSocket message.
        max_buffer_s: audio that waits; what comes after is dropped, or waits in the socket.
        burst_s: how far ahead of real time audio is taken as fast as it comes.
        max_speed: times real time at which it is taken beyond that.
        first_message_s: time a client has to say anything at all.
        idle_s: time without a message after which the stream ends.
        reader_s: time for which a message may wait for a client that does not read.
        leave_s: time for a pause to come, once the service is told to stop.
    """

    max_frame_bytes: int
    max_buffer_s: float
    burst_s: float
    max_speed: float
    first_message_s: float
    idle_s: float
    reader_s: float
    leave_s: float


CameAfter = Literal["drain", "move", "lost"]
"""Why a stream was begun again: the service before stopped, asked it to, or was lost."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a client says of its stream's life elsewhere.

    Args:
        resumes: whether it goes on elsewhere when this stream ends.
        after: why it came here; None for a stream that begins.
        since_s: seconds since it was last drained or asked to move; None if it never was.
    """

    resumes: bool = False
    after: CameAfter | None = None
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a client is told first."""

    session_id: str
    request_id: str
    info: ModelInfo
    config: StreamConfig
    plan: PlanInUse
    limits: StreamLimits


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The client is still there, and has nothing to say."""


class Dialect(Protocol):
    """One conversation in one dialect; numbers its messages."""

    name: str
    """The label in metrics."""
    subprotocol: str
    """Of the WebSocket; chosen where the client offers it."""
    moved: Moved
    """What `config` has read of the stream's life elsewhere."""

    def config(self, query: Mapping[str, str]) -> StreamConfig:
        """Read how a stream should begin.

        Raises:
            CallerError: not like this.
        """
        ...

    def command(self, text: str, choice: DepthChoice) -> Command | Keepalive:
        """Read a text frame; `choice` is what holds where the frame says nothing of depth.

        Raises:
            CallerError: it is none that a client may send.
        """
        ...

    def welcome(self, welcome: Welcome) -> str:
        """Write the first message."""
        ...

    def event(self, event: Event) -> str:
        """Write what a stream has to tell."""
        ...

    def error(self, error: ServiceError | None) -> str:
        """Write down the error that ends the stream; None is a fault of ours that nobody is told more of."""
        ...
