"""What a stream tells its client; a dialect writes it down. Times are seconds of stream time.

`end` is how far the message has taken the audio into account: by the encoder at the plan's depth,
or by the gate as silence. It never falls from one message to the next.
"""

from dataclasses import dataclass
from typing import Literal

from service.engine.base import PlanInUse, Word
from service.errors import CallerError, Unavailable

FinalReason = Literal["endpoint", "limit", "flush", "stop", "drain", "move", "idle", "gap"]
LeavingReason = Literal["drain", "move"]
"""Why a stream should go on elsewhere: the service stops, or has too many streams."""
ClosingReason = Literal["stop", "drain", "move", "idle"]


@dataclass(frozen=True, slots=True)
class Partial:
    """A caption that may still change behind its first `stable_chars` characters."""

    utt: int
    start_s: float
    end_s: float
    text: str
    stable_chars: int
    layers: float
    lag_s: float


@dataclass(frozen=True, slots=True)
class Final:
    """A caption that stands.

    Args:
        layers: mean of the effective layers over the frames.
        plans: from when each plan ran.
        flops: all that the utterance took, encoder and decoder.
        rtf: engine time over audio.
        reason: why the utterance ended.
    """

    utt: int
    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...]
    layers: float
    plans: tuple[tuple[float, PlanInUse], ...]
    drop: float
    flops: int
    rtf: float
    lag_s: float
    reason: FinalReason


@dataclass(frozen=True, slots=True)
class Depth:
    """The plan that runs from the next chunk on, or from the next utterance."""

    plan: PlanInUse
    reason: Literal["auto", "configure"]
    applies: Literal["next_chunk", "next_utterance"]


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the audio has been taken into account, where no caption says so.

    Args:
        buffered_s: audio received behind that.
        accepted_s: up to where all speech is in finals; a client that had to go on elsewhere would
            begin there.
    """

    end_s: float
    lag_s: float
    buffered_s: float
    accepted_s: float


@dataclass(frozen=True, slots=True)
class Dropped:
    """Audio that was not taken, because the service was too far behind."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Leaving:
    """The stream ends at its next pause, so that its client can go on elsewhere.

    Args:
        reason: why.
        end_s: that of the last message before.
        deadline_s: seconds from now after which it ends in any case.
    """

    reason: LeavingReason
    end_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Marked:
    """All audio before the client's marker has been taken into account."""

    id: str


@dataclass(frozen=True, slots=True)
class Stats:
    """Totals since the stream began, and what it holds now."""

    audio_s: float
    encoded_s: float
    dropped_s: float
    utterances: int
    layers: float
    flops: int
    full_flops: int
    rtf: float
    state_bytes: int


@dataclass(frozen=True, slots=True)
class Refused:
    """What the client sent was of no use, or is none now; the stream goes on."""

    error: CallerError | Unavailable


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing follows.

    Args:
        end_s: up to where sound was accepted: all speech before it is in the finals, and nothing
            behind it was taken into account. A client that goes on elsewhere begins there.
    """

    reason: ClosingReason
    stats: Stats
    end_s: float


Event = Partial | Final | Depth | Lag | Dropped | Leaving | Marked | Stats | Refused | Done
