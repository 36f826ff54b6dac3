"""The settings of the service, read from the environment once, at the start."""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsInvalid

PREFIX = "ASR_"
KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024
HOUR_S = 3600.0
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Hosts that nobody else reaches."""
CLIENT_KEY = PREFIX + "API_KEY"
"""No setting of the service: the one that the command line shows to a server."""

_ORIGIN = re.compile(r"https?://[^/\s@?#]+", re.IGNORECASE)


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
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port for /metrics alone, which the service's port then has no more; 0 takes a "
        "free one.",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM file with the server's certificate and those above it; with one, https "
        "and wss are spoken.",
    )
    tls_key: Path | None = Field(
        default=None, description="PEM file with the certificate's private key."
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses or networks of reverse proxies, between commas, whose word on the "
        "client's address (X-Forwarded-For) is taken; * for any.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="File with a line NAME:TIER:KEY or NAME:TIER:sha256=DIGEST for each API key; "
        "the tier is standard or priority. Without keys everybody may come in.",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="The same lines, between commas; the file is safer, as others on the machine "
        "may see an environment.",
    )
    metrics_open: bool = Field(
        default=True, description="Whether /metrics is given to callers without a key."
    )
    reserved_streams: int = Field(
        default=0,
        ge=0,
        description="Of max_streams, and of what the machine is predicted to carry, those that only "
        "priority keys take.",
    )
    allowed_origins: str = Field(
        default="",
        description="Origins like https://captions.example.org, between commas, whose pages may "
        "use the service beside its own page; * for all.",
    )
    rate_limit_per_minute: float = Field(
        default=0.0,
        ge=0,
        description="Requests and streams that a key, or an address where there are no keys, may "
        "begin in a minute; 0 sets no limit.",
    )
    rate_limit_burst: int = Field(
        default=30, ge=1, description="Of them, those that may come at once."
    )
    engine: Literal["auto", "onnx", "torch", "fake"] = Field(
        default="auto",
        description="What computes; auto is onnx on processors that multiply bytes, else torch; "
        "fake needs no model and makes words up.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where the engine torch runs its model; auto is cuda where torch can use it. "
        "With cuda and no such GPU the service does not start.",
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
        default=4,
        ge=1,
        le=64,
        description="Windows (up to 24 s each) of one engine step, of one file or of several.",
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
    partial_interval_s: float = Field(
        default=0.0,
        ge=0,
        description="Time between two partials of an utterance, for experiments; 0 lets the load "
        "say.",
    )
    controller: Literal["brownout", "slack", "fixed"] = Field(
        default="brownout",
        description="What turns the depth of those who leave it to us: brownout steers by measured "
        "latency, slack by predicted; fixed never turns.",
    )
    controller_setpoint_s: float = Field(
        default=0.4,
        gt=0,
        description="95th percentile of the time from a chunk's last sample to the end of its step "
        "that the controller keeps to.",
    )
    controller_pole: float = Field(
        default=0.9,
        ge=0,
        lt=1,
        description="Calm of the brownout law: nearer to 1 is slower.",
    )
    controller_dwell_s: float = Field(
        default=1.0, ge=0, description="Least time between two steps down in depth."
    )
    max_wer_increase: float = Field(
        default=0.5,
        ge=0,
        description="Word errors accepted under load beyond those at full depth: 0.5 is half as "
        "many again. Depths that the model's card puts above are not used.",
    )
    min_layers: float = Field(
        default=0.0, ge=0, description="Effective layers below which no load takes a stream."
    )
    early_refusal: bool = Field(
        default=True,
        description="Refuse streams that even the least depth could not carry; without, only the "
        "places count.",
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
    replicas_min: int = Field(
        default=1, ge=1, description="Of a fleet: replicas that run whatever the load."
    )
    replicas_max: int = Field(
        default=2,
        ge=1,
        validation_alias=AliasChoices("ASR_REPLICAS_MAX", "REPLICAS_MAX"),
        description="Of a fleet: replicas that run at most. REPLICAS_MAX works too.",
    )
    replica_streams: float = Field(
        default=24.0,
        gt=0,
        description="Of a fleet: streams that a replica is thought to carry at full depth; what it "
        "is seen to carry goes before.",
    )
    replica_spare_s: float = Field(
        default=120.0,
        gt=0,
        description="Of a fleet: replicas leave once they have been more than the load needs for so long.",
    )
    replica_cores: float = Field(
        default=1.0,
        gt=0,
        description="Of a fleet: cores that a replica takes; below 1, several share one.",
    )
    fleet_ingress: Literal["haproxy", "ray"] = Field(
        default="haproxy",
        description="Of a fleet: what streams come in by, HAProxy or the proxy of Ray Serve.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe event that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Lines for people, or one JSON object each."
    )
    fake_realtime_factor: float = Field(
        default=0.0, ge=0, description="Seconds the fake engine spends on a second of speech."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for network in listed(value):
            if network != "*":
                ipaddress.ip_network(network, strict=False)
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in listed(value)):
            raise ValueError(
                "expected origins like https://captions.example.org, got another thing"
            )
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("expected tls_certificate and tls_key together, got one of them")
        if self.replicas_min > self.replicas_max:
            raise ValueError("expected replicas_min up to replicas_max, got more")
        if self.reserved_streams >= self.max_streams:
            raise ValueError("expected reserved_streams below max_streams, got as many or more")
        if self.device == "cuda" and self.engine not in {"auto", "torch"}:
            raise ValueError(f"expected the engine torch for device cuda, got {self.engine}")
        return self


def listed(text: str) -> tuple[str, ...]:
    """Give the parts of a setting that is a list, between commas or spaces."""
    return tuple(text.replace(",", " ").split())


def client_key(path: Path | None) -> str | None:
    """Give the key that the command line shows to a server: from a file, else from ASR_API_KEY.

    Raises:
        SettingsInvalid: the file cannot be read.
    """
    if path is None:
        return os.environ.get(CLIENT_KEY) or None  # noqa: TID251 the one module that reads it
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"expected a readable file with a key at {path}, got none") from error


def set_up_ray(*, loopback: bool, quiet: bool = False) -> None:
    """Set the environment that Ray reads when it is imported, and that its processes inherit.

    What the operator has set stays.

    Args:
        loopback: whether Ray's processes listen on loopback alone; there is but one machine then.
        quiet: whether Ray's own processes keep what they see to their log files.
    """
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
        # Ten times a second, as it is by default, the controller alone takes 5 % of a core.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.3",
    }
    if loopback:
        # Named for the systems on which a cluster is not supported: a node is 127.0.0.1 then.
        wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if quiet:
        wanted["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    for name, value in wanted.items():
        os.environ.setdefault(name, value)  # noqa: TID251 the one module that does


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
    known = {CLIENT_KEY, *(PREFIX + name.upper() for name in Settings.model_fields)}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsInvalid(f"expected settings out of the documented ones, got {unknown[0]!r}")
