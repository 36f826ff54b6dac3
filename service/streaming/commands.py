"""What a client asks of its stream, in the order in which it was sent, audio included."""

from dataclasses import dataclass

from service.engine.base import DepthChoice
from service.streaming.events import ClosingReason, LeavingReason
from service.streaming.pcm import Encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """How a stream begins.

    Args:
        encoding: of its bytes.
        rate_hz: of its samples.
        choice: the depth asked for.
        endpointing_s: silence that ends an utterance.
        model: the name or alias asked for, if any; the caller has made it part of the choice by the
            time a session begins.
        hotwords: words that may come.
        start_s: the stream time of its first sample; not 0, if it was elsewhere before.
        first_utterance: the number of its first utterance.
    """

    encoding: Encoding = "pcm_s16le"
    rate_hz: int = 16_000
    choice: DepthChoice
    endpointing_s: float = 0.5
    model: str | None = None
    hotwords: tuple[str, ...] = ()
    start_s: float = 0.0
    first_utterance: int = 0


@dataclass(frozen=True, slots=True)
class Packet:
    """Audio as it arrived, and when."""

    pcm: bytes
    arrived_s: float


@dataclass(frozen=True, slots=True)
class Gap:
    """Audio that had to be dropped."""

    num_bytes: int
    arrived_s: float


@dataclass(frozen=True, slots=True)
class Configure:
    """Change the depth from the next chunk on, the silence that ends an utterance, or the hotwords."""

    choice: DepthChoice | None = None
    endpointing_s: float | None = None
    hotwords: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Flush:
    """End the utterance here; the stream goes on."""


@dataclass(frozen=True, slots=True)
class Marker:
    """Say when all audio before this has been taken into account."""

    id: str


@dataclass(frozen=True, slots=True)
class Leave:
    """End the stream at the first pause behind the audio that came before this."""

    reason: LeavingReason


@dataclass(frozen=True, slots=True)
class Stop:
    """End the utterance and the stream."""

    reason: ClosingReason = "stop"


Command = Configure | Flush | Marker | Leave | Stop
Item = Packet | Gap | Command
