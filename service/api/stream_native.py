"""The native dialect, `WS /v1/stream`: JSON text frames with `type`, and binary audio."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import ValidationError

from service.api.problems import INTERNAL_CODE, INTERNAL_MESSAGE, retry_after_s_of
from service.api.stream_dialect import Keepalive, Moved, Welcome
from service.api.stream_messages import (
    SUBPROTOCOL,
    ConfigureMessage,
    DepthMessage,
    DepthOffered,
    DoneMessage,
    ErrorMessage,
    FinalMessage,
    FlushMessage,
    KeepaliveMessage,
    LagMessage,
    MarkerMessage,
    MarkMessage,
    PartialMessage,
    ReadyMessage,
    ServerMessage,
    StatsMessage,
    StopMessage,
    StreamLimits,
    StreamQuery,
    WarningMessage,
    WordOut,
    client_messages,
)
from service.engine.base import DepthChoice, ModelInfo, PlanInUse
from service.errors import MessageInvalid, ParameterInvalid, ServiceError
from service.scheduling.depth import parse_choice
from service.scheduling.hotwords import checked_hotwords, expect_support, parse_hotwords
from service.streaming.commands import Command, Configure, Flush, Marker, Stop, StreamConfig
from service.streaming.events import (
    Depth,
    Done,
    Dropped,
    Event,
    Final,
    Lag,
    Leaving,
    LeavingReason,
    Marked,
    Partial,
    Refused,
    Stats,
)

_DECIMALS = 3  # milliseconds
_MAX_QUOTED_CHARS = 40
_LEAVING: dict[LeavingReason, tuple[Literal["draining", "moving"], str]] = {
    "drain": ("draining", "the service is stopping"),
    "move": ("moving", "other replicas have more room"),
}


class NativeDialect:
    """One conversation."""

    name = "native"
    subprotocol = SUBPROTOCOL

    def __init__(self) -> None:
        self.moved = Moved()
        self._seq = 0
        self._with_words = True
        self._info: ModelInfo | None = None
        self._client_messages = client_messages()

    def config(self, query: Mapping[str, str]) -> StreamConfig:
        """Read the query.

        Raises:
            ParameterInvalid: a parameter is unknown or has a value it may not have.
            DropOutOfRange: the depth is no number in [0, 1).
            HotwordsError: there are too many hotwords, or one cannot be used.
        """
        try:
            asked = StreamQuery.model_validate(dict(query))
        except ValidationError as error:
            raise ParameterInvalid(_in_words(error, "parameter")) from error
        self._with_words = asked.words
        self._seq = asked.seq
        self.moved = Moved(asked.resumes, asked.after, asked.moved_s)
        return StreamConfig(
            encoding=asked.encoding,
            rate_hz=int(asked.sample_rate),
            choice=parse_choice(asked.drop, asked.max_drop, asked.policy),
            model=asked.model,
            endpointing_s=asked.endpointing_ms / 1000,
            hotwords=parse_hotwords(asked.hotwords),
            start_s=asked.start_s,
            first_utterance=asked.utt,
        )

    def command(self, text: str, choice: DepthChoice) -> Command | Keepalive:
        """Read a text frame.

        Raises:
            MessageInvalid: it is none of the messages.
            DropOutOfRange: the depth is no number in [0, 1).
            HotwordsError: there are too many hotwords, one cannot be used, or the model takes none.
        """
        try:
            message = self._client_messages.validate_json(text)
        except ValidationError as error:
            raise MessageInvalid(_in_words(error, "message")) from error
        match message:
            case ConfigureMessage():
                configure = _configure(message, choice)
                if self._info is not None:
                    expect_support(configure.hotwords or (), self._info)
                return configure
            case FlushMessage():
                return Flush()
            case MarkMessage():
                return Marker(message.id)
            case KeepaliveMessage():
                return Keepalive()
            case StopMessage():
                return Stop()

    def welcome(self, welcome: Welcome) -> str:
        """Write `ready`."""
        info, config, limits = welcome.info, welcome.config, welcome.limits
        self._info = info
        return self._number(
            lambda seq: ReadyMessage(
                seq=seq,
                session_id=welcome.session_id,
                request_id=welcome.request_id,
                model=info.name,
                layers_total=info.layers_total,
                depths=tuple(
                    DepthOffered(layers=one.effective_layers, drop=one.drop) for one in info.offered
                ),
                policies=info.policies,
                **_depth(welcome.plan),
                sample_rate=config.rate_hz,
                encoding=config.encoding,
                endpointing_ms=round(config.endpointing_s * 1000),
                chunk_ms=round(info.chunk_s * 1000),
                limits=StreamLimits(
                    max_frame_bytes=limits.max_frame_bytes,
                    max_buffer_s=limits.max_buffer_s,
                    burst_s=limits.burst_s,
                    max_speed=limits.max_speed,
                    idle_s=limits.idle_s,
                ),
                start_s=config.start_s,
                utt=config.first_utterance,
            )
        )

    def event(self, event: Event) -> str:
        """Write an event of the stream."""
        return self._number(lambda seq: self._message(event, seq))

    def error(self, error: ServiceError | None) -> str:
        """Write `error` before a close."""
        return self._number(lambda seq: _error(error, seq, fatal=True))

    def _number(self, make: Callable[[int], ServerMessage]) -> str:
        message = make(self._seq)
        self._seq += 1
        return message.model_dump_json()

    def _message(self, event: Event, seq: int) -> ServerMessage:  # noqa: PLR0911 one per event
        match event:
            case Partial():
                return PartialMessage(
                    seq=seq,
                    utt=event.utt,
                    start=_s(event.start_s),
                    end=_s(event.end_s),
                    text=event.text,
                    stable_chars=event.stable_chars,
                    layers=event.layers,
                    lag_ms=_ms(event.lag_s),
                )
            case Final():
                return self._final(event, seq)
            case Depth():
                return DepthMessage(
                    seq=seq, **_depth(event.plan), reason=event.reason, applies=event.applies
                )
            case Lag():
                return LagMessage(
                    seq=seq,
                    end=_s(event.end_s),
                    lag_ms=_ms(event.lag_s),
                    buffered_s=_s(event.buffered_s),
                    accepted=_s(event.accepted_s),
                )
            case Dropped() | Leaving():
                return _warning(event, seq)
            case Marked():
                return MarkerMessage(seq=seq, id=event.id)
            case Stats():
                return StatsMessage(seq=seq, **_totals(event), state_bytes=event.state_bytes)
            case Refused():
                return _error(event.error, seq, fatal=False)
            case Done():
                end = _s(event.end_s)
                return DoneMessage(seq=seq, **_totals(event.stats), reason=event.reason, end=end)

    def _final(self, event: Final, seq: int) -> FinalMessage:
        words = [
            WordOut(
                word=word.text,
                start=_s(word.start_s),
                end=_s(word.end_s),
                confidence=round(word.confidence, 4),
            )
            for word in (event.words if self._with_words else ())
        ]
        return FinalMessage(
            seq=seq,
            utt=event.utt,
            start=_s(event.start_s),
            end=_s(event.end_s),
            text=event.text,
            words=tuple(words),
            layers=round(event.layers, 4),
            plans=tuple((_s(from_s), plan.strides) for from_s, plan in event.plans),
            drop=round(event.drop, 4),
            flops=event.flops,
            rtf=round(event.rtf, 4),
            lag_ms=_ms(event.lag_s),
            reason=event.reason,
        )


def _error(error: ServiceError | None, seq: int, *, fatal: bool) -> ErrorMessage:
    retry_s = retry_after_s_of(error)
    return ErrorMessage(
        seq=seq,
        code=error.code if error else INTERNAL_CODE,
        message=str(error) if error else INTERNAL_MESSAGE,
        retry_after_ms=None if retry_s is None else retry_s * 1000,
        fatal=fatal,
    )


def _configure(message: ConfigureMessage, choice: DepthChoice) -> Configure:
    endpointing_s = None if message.endpointing_ms is None else message.endpointing_ms / 1000
    hotwords = None if message.hotwords is None else checked_hotwords(message.hotwords)
    if message.drop is None and message.max_drop is None and message.policy is None:
        return Configure(None, endpointing_s, hotwords)
    wanted = parse_choice(
        "auto" if message.drop is None else str(message.drop),
        None if message.max_drop is None else str(message.max_drop),
        message.policy or choice.policy,
    )
    kept = replace(
        wanted,
        drop=choice.drop if message.drop is None else wanted.drop,
        max_drop=choice.max_drop if message.max_drop is None else wanted.max_drop,
    )
    return Configure(kept, endpointing_s, hotwords)


def _warning(event: Dropped | Leaving, seq: int) -> WarningMessage:
    if isinstance(event, Leaving):
        return _leaving(event, seq)
    start, end = _s(event.start_s), _s(event.end_s)
    return WarningMessage(
        seq=seq,
        code="audio_dropped",
        message=f"{end - start:.1f} s of audio were dropped: the service is too far behind",
        start=start,
        end=end,
    )


def _leaving(event: Leaving, seq: int) -> WarningMessage:
    at, why = _s(event.end_s), _LEAVING[event.reason]
    return WarningMessage(
        seq=seq,
        code=why[0],
        message=f"{why[1]}; the stream ends at its next pause, within {event.deadline_s:g} s",
        start=at,
        end=at,
        deadline_ms=_ms(event.deadline_s),
    )


def _depth(plan: PlanInUse) -> dict[str, Any]:  # Any: fields of messages, checked by pydantic
    return {
        "layers": plan.effective_layers,
        "plan": plan.strides,
        "drop": round(plan.drop, 4),
    }


def _totals(stats: Stats) -> dict[str, Any]:  # Any: fields of messages, checked by pydantic
    return {
        "audio_s": _s(stats.audio_s),
        "encoded_s": _s(stats.encoded_s),
        "dropped_s": _s(stats.dropped_s),
        "utterances": stats.utterances,
        "layers": round(stats.layers, 4),
        "flops": stats.flops,
        "full_flops": stats.full_flops,
        "rtf": round(stats.rtf, 4),
    }


def _s(seconds: float) -> float:
    return round(seconds, _DECIMALS)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _in_words(error: ValidationError, thing: str) -> str:
    """Say what is wrong without repeating what was sent."""
    first = error.errors(include_input=False, include_url=False)[0]
    name = str(first["loc"][-1])[:_MAX_QUOTED_CHARS] if first["loc"] else thing
    if first["type"] == "extra_forbidden":
        return f"expected only documented fields, got {name!r}"
    if first["type"] == "json_invalid":
        return "expected a JSON object, got something else"
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return "expected a type out of configure, flush, marker, keepalive, stop; got another"
    if first["type"] == "literal_error":
        return f"expected {name} to be one of {first.get('ctx', {}).get('expected')}"
    return f"expected a valid {name}, got one that is not"
