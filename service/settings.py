"""The settings of the service, read from the environment once, at the start."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsInvalid

PREFIX = "ASR_"
KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024
HOUR_S = 3600.0


class Settings(BaseSettings):
    """Every setting; each is read from `ASR_` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True
    )

    host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("ASR_HOST", "HOST"),
        description="Address to listen on; 0.0.0.0 for all. HOST works too.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("ASR_PORT", "PORT"),
        description="Port to listen on; 0 takes a free one. PORT works too.",
    )
    engine: Literal["auto", "onnx", "torch", "fake"] = Field(
        default="auto",
        description="What computes; auto is onnx on processors that multiply bytes, else torch; "
        "fake needs no model and makes words up.",
    )
    engine_cache: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "elastic-asr",
        description="Folder in which an engine keeps what it builds from a model.",
    )
    model: str = Field(
        default="moonshine-base-elastic",
        min_length=1,
        description="A shipped model, a folder with a checkpoint, or a hub identifier.",
    )
    engine_threads: int = Field(
        default=1, ge=1, description="Threads that one engine step may use."
    )
    decode_threads: int = Field(default=2, ge=1, description="Uploads that are decoded at once.")
    batch_windows: int = Field(
        default=4, ge=1, le=64, description="Windows (up to 24 s each) of one engine step."
    )
    max_streams: int = Field(
        default=32, ge=1, description="Live streams that speak at once; more get close 1013."
    )
    max_stream_sockets: int = Field(
        default=1024, ge=1, description="Open WebSockets, those that say nothing included."
    )
    max_frame_bytes: int = Field(
        default=256 * KIBIBYTE, ge=1024, description="Bytes of one WebSocket message."
    )
    stream_buffer_s: float = Field(
        default=10.0, gt=0, description="Audio of a stream that may wait; more is dropped."
    )
    stream_burst_s: float = Field(
        default=15.0, gt=0, description="Audio ahead of real time that is read as it comes."
    )
    stream_max_speed: float = Field(
        default=2.0, ge=1, description="Times real time at which it is read beyond the burst."
    )
    stream_first_message_s: float = Field(
        default=10.0, gt=0, description="Time a new stream has to say anything."
    )
    stream_idle_s: float = Field(
        default=60.0, gt=0, description="Silence of a client after which its stream ends."
    )
    stream_reader_s: float = Field(
        default=10.0, gt=0, description="Time a message waits for a client that does not read."
    )
    two_pass_finals: bool = Field(
        default=True,
        description="Hear each utterance once more, whole, for its final; not under load.",
    )
    max_requests: int = Field(default=16, ge=1, description="Files in work at once; more get 503.")
    max_upload_bytes: int = Field(default=512 * MEBIBYTE, ge=1, description="Bytes of one upload.")
    max_upload_memory_bytes: int = Field(
        default=1024 * MEBIBYTE,
        ge=1,
        description="Bytes of all uploads together; they stay in memory.",
    )
    max_audio_s: float = Field(default=4 * HOUR_S, gt=0, description="Decoded length of one file.")
    max_request_s: float = Field(default=HOUR_S, gt=0, description="Time one file may be in work.")
    upload_grace_s: float = Field(
        default=20.0, gt=0, description="Head start of an upload before its rate is judged."
    )
    upload_min_bytes_per_s: float = Field(
        default=16_000.0, gt=0, description="Slowest rate at which an upload is waited for."
    )
    header_timeout_s: float = Field(
        default=10.0, gt=0, description="Time a connection has for its first request's head."
    )
    keep_alive_s: int = Field(default=5, ge=0, description="Time an idle connection stays open.")
    shutdown_grace_s: float = Field(
        default=20.0, ge=0, description="Time that running requests have to finish after SIGTERM."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe event that is logged."
    )
    fake_realtime_factor: float = Field(
        default=0.0, ge=0, description="Seconds the fake engine spends on a second of speech."
    )


def read_settings(**overrides: str | float | None) -> Settings:
    """Read the environment; what the command line gives, where it is not None, goes before.

    Raises:
        SettingsInvalid: a setting is unknown or has a value it may not have.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    _refuse_unknown(os.environ)  # noqa: TID251 the one place that reads the environment
    try:
        return Settings(**given)  # pyright: ignore[reportArgumentType] pydantic checks the values
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise SettingsInvalid(f"expected valid settings, got {problems}") from error


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    # pydantic-settings passes over a misspelt variable, and the operator believes it is set.
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsInvalid(f"expected settings out of the documented ones, got {unknown[0]!r}")
