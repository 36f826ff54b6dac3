"""Every message of `WS /v1/stream`, both ways; the AsyncAPI file is made of these classes.

Times are seconds of stream time. Fields may be added to a message; none is taken away or renamed
within a version of the protocol.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from service.api.stream_dialect import CameAfter

PROTOCOL_VERSION = "1.1"
SUBPROTOCOL = "asr.v1"
"""Chosen where a client offers it; browsers offer it beside their key."""
MAX_START_S = 31_622_400.0
"""A leap year."""
MAX_NUMBER = 2**31 - 1


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _FromServer(_Message):
    seq: int = Field(description="Rises by one with each message of the server.", ge=0)


class StreamLimits(_Message):
    """What a client should know of the server's patience."""

    max_frame_bytes: int = Field(description="Longest frame; longer ones close with 1009.")
    max_buffer_s: float = Field(description="Audio that may wait before some is dropped.")
    burst_s: float = Field(description="How far ahead of real time audio is read at once.")
    max_speed: float = Field(description="Times real time at which it is read beyond that.")
    idle_s: float = Field(description="Time without a message after which the stream ends.")


class DepthOffered(_Message):
    """One budget of the ladder."""

    layers: float = Field(description="Effective layers.")
    drop: float


class ReadyMessage(_FromServer):
    """The stream may begin."""

    type: Literal["ready"] = "ready"
    protocol: str = Field(PROTOCOL_VERSION, description="Version of this protocol.")
    session_id: str
    request_id: str = Field(description="Of the handshake; names the stream in the server's log.")
    model: str
    layers_total: int
    depths: tuple[DepthOffered, ...]
    policies: tuple[str, ...]
    layers: float = Field(description="Effective layers that the first chunk will run at.")
    plan: tuple[int, ...] = Field(description="Stride of each layer; 0 is skipped.")
    drop: float
    sample_rate: int
    encoding: str
    endpointing_ms: int
    chunk_ms: int = Field(description="Audio that the encoder takes at once.")
    limits: StreamLimits
    start_s: float = Field(description="Stream time of the first sample: that of the query.")
    utt: int = Field(description="The first utterance's number: that of the query.")


class PartialMessage(_FromServer):
    """A caption that may still change behind its first `stable_chars` characters."""

    type: Literal["partial"] = "partial"
    utt: int = Field(description="The utterance; the first is the query's `utt`.")
    start: float
    end: float = Field(description="How far the audio has been taken into account.")
    text: str
    stable_chars: int = Field(description="Characters that no later partial changes.")
    layers: float
    lag_ms: int = Field(description="Age of the last packet that `end` covers.")


class WordOut(_Message):
    """One word of a final."""

    word: str
    start: float
    end: float
    confidence: float


class FinalMessage(_FromServer):
    """A caption that stands; the only final of its utterance."""

    type: Literal["final"] = "final"
    utt: int
    start: float
    end: float = Field(description="The silence that ended the utterance included.")
    text: str
    words: tuple[WordOut, ...] = Field(description="Empty with `words=false`.")
    layers: float = Field(description="Mean of the effective layers over the frames.")
    plans: tuple[tuple[float, tuple[int, ...]], ...] = Field(
        description="Pairs of the time from which a plan ran and its strides."
    )
    drop: float = Field(description="Share of the depth that was given up.")
    flops: int = Field(description="Operations in all, estimated.")
    rtf: float = Field(description="Engine time over encoded audio.")
    lag_ms: int
    reason: Literal["endpoint", "limit", "flush", "stop", "drain", "move", "idle", "gap"]


class DepthMessage(_FromServer):
    """The plan has changed, or will with the next utterance."""

    type: Literal["depth"] = "depth"
    layers: float
    plan: tuple[int, ...]
    drop: float
    reason: Literal["auto", "configure"]
    applies: Literal["next_chunk", "next_utterance"] = Field(
        description="Skipped layers change between utterances only; strides at any chunk."
    )


class LagMessage(_FromServer):
    """Moves `end` where no caption does."""

    type: Literal["lag"] = "lag"
    end: float
    lag_ms: int
    buffered_s: float = Field(description="Audio received and not yet taken into account.")
    accepted: float = Field(
        description="All speech up to here is in finals; a client whose connection breaks now goes "
        "on from here."
    )


class WarningMessage(_FromServer):
    """Something the client should know; the stream goes on.

    `audio_dropped`: sound from `start` to `end` was not taken. `draining`, `moving`: the stream ends
    at its next pause, with `done` and close 1001; begin another one with `start_s` = `done.end`.
    """

    type: Literal["warning"] = "warning"
    code: Literal["audio_dropped", "draining", "moving"]
    message: str
    start: float
    end: float = Field(
        description="Of `draining` and `moving` the same as `start`: where it is now."
    )
    deadline_ms: int | None = Field(
        default=None, description="Time within which the stream ends, pause or not; else null."
    )


class MarkerMessage(_FromServer):
    """All audio before the client's marker has been taken into account."""

    type: Literal["marker"] = "marker"
    id: str


class _Totals(_FromServer):
    audio_s: float
    encoded_s: float = Field(description="Without the silence between utterances.")
    dropped_s: float
    utterances: int
    layers: float = Field(description="Mean of the effective layers over all frames.")
    flops: int
    full_flops: int = Field(description="What the same would have been at full depth.")
    rtf: float = Field(description="Engine time over audio.")


class StatsMessage(_Totals):
    """Totals since the stream began, once a second of audio."""

    type: Literal["stats"] = "stats"
    state_bytes: int = Field(description="Memory of the engine's caches now.")


class ErrorMessage(_FromServer):
    """Something went wrong; if `fatal`, the connection closes behind this message."""

    type: Literal["error"] = "error"
    code: str = Field(description="Stable; the message is for people.")
    message: str
    retry_after_ms: int | None
    fatal: bool


class DoneMessage(_Totals):
    """Everything has been told."""

    type: Literal["done"] = "done"
    reason: Literal["stop", "drain", "move", "idle"]
    end: float = Field(
        description="Sound up to here was accepted: all speech in it is in exactly one final. What "
        "was sent behind it was not taken into account; it may lie up to 0.3 s before the `end` of "
        "the last `lag`, in silence."
    )


ServerMessage = Annotated[
    ReadyMessage
    | PartialMessage
    | FinalMessage
    | DepthMessage
    | LagMessage
    | WarningMessage
    | MarkerMessage
    | StatsMessage
    | ErrorMessage
    | DoneMessage,
    Field(discriminator="type"),
]


class ConfigureMessage(_Message):
    """Change what was set when the stream began; what is left out stays."""

    type: Literal["configure"]
    drop: str | float | None = Field(None, description="`auto`, or a number in [0, 1).")
    max_drop: float | None = Field(None, description="A number in [0, 1).")
    policy: str | None = None
    endpointing_ms: int | None = Field(None, ge=100, le=5000)
    hotwords: tuple[str, ...] | None = Field(
        None,
        description="Words or names that may come, at most 100 of 64 characters, from the next "
        "update on; an empty list takes them back.",
    )


class FlushMessage(_Message):
    """End the utterance here; the stream goes on."""

    type: Literal["flush"]


class MarkMessage(_Message):
    """Ask for a marker once all audio before it has been taken into account."""

    type: Literal["marker"]
    id: str = Field(max_length=64)


class KeepaliveMessage(_Message):
    """Say that the client is still there while it sends no audio."""

    type: Literal["keepalive"]


class StopMessage(_Message):
    """End the utterance and the stream; final and done follow."""

    type: Literal["stop"]


ClientMessage = Annotated[
    ConfigureMessage | FlushMessage | MarkMessage | KeepaliveMessage | StopMessage,
    Field(discriminator="type"),
]


class StreamQuery(_Message):
    """The query of `WS /v1/stream`; unknown parameters are refused."""

    sample_rate: Literal["8000", "16000", "24000", "44100", "48000"] = "16000"
    encoding: Literal["pcm_s16le", "mulaw", "alaw"] = "pcm_s16le"
    drop: str = "auto"
    max_drop: str | None = None
    policy: str = "ladder"
    endpointing_ms: int = Field(500, ge=100, le=5000)
    words: bool = True
    model: str | None = Field(
        None,
        description="The model served or an alias of it; an alias sets the drop where `drop` does "
        "not.",
    )
    hotwords: str = Field(
        "",
        description="Words or names that may come, between commas: at most 100 of 64 characters.",
    )
    start_s: float = Field(
        0.0,
        ge=0,
        le=MAX_START_S,
        allow_inf_nan=False,
        description="Stream time of the first sample, of a stream that goes on from elsewhere; all "
        "times that the server tells count from there.",
    )
    utt: int = Field(0, ge=0, le=MAX_NUMBER, description="Number of the first utterance.")
    seq: int = Field(0, ge=0, le=MAX_NUMBER, description="Number of the first message.")
    resumes: bool = Field(
        False,  # noqa: FBT003 a default
        description="The client keeps what is not yet final and goes on elsewhere when the stream "
        "ends with 1001; only such a stream is asked to move.",
    )
    after: CameAfter | None = Field(
        None, description="Why the stream was begun again: `done.reason`, or `lost`."
    )
    moved_s: float | None = Field(
        None,
        ge=0,
        le=MAX_START_S,
        allow_inf_nan=False,
        description="Seconds since the stream was last drained or asked to move; left out if it "
        "never was. It is not asked again before 300.",
    )


def client_messages() -> TypeAdapter[ClientMessage]:
    """Make what reads a client's text frames."""
    return TypeAdapter(ClientMessage)


def server_messages() -> TypeAdapter[ServerMessage]:
    """Make what reads a server's text frames."""
    return TypeAdapter(ServerMessage)
