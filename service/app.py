"""The composition root: everything is built here, once, and handed to what needs it."""

import asyncio
import logging
import multiprocessing
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, ProcessCollector

from service.api.edge import install_edge
from service.api.exposition import exposition_port, exposition_router
from service.api.health import health_router
from service.api.models import models_router
from service.api.page import page_router
from service.api.problems import install_problems
from service.api.stream import StreamRoute, stream_router
from service.api.stream_dialect import StreamLimits
from service.api.tiers import Privileges
from service.api.transcribe import TranscribeRoute, transcribe_router
from service.api.uploads import UploadLimits
from service.engine import create_engine
from service.engine.base import Engine
from service.errors import EngineError, SettingsInvalid
from service.metrics import Metrics, create_metrics
from service.scheduling.admission import Admission, Places, UploadMemory
from service.scheduling.clock import Clock
from service.scheduling.files import Limits, Transcriber
from service.scheduling.live import LiveScheduler
from service.scheduling.load_control import ControlConfig, LoadControl
from service.scheduling.moves import Moves
from service.settings import Settings

logger = logging.getLogger(__name__)

LOOP_LAG_INTERVAL_S = 0.25
MAX_PAUSE_WAIT_S = 10.0
"""Seconds that streams have to come to a pause before a stop; of a short grace, half of it."""
CLOSE_TIMEOUT_S = 2.0
"""Seconds; by the time the threads are closed, requests are answered or given up."""


@dataclass(frozen=True, slots=True)
class Service:
    """An app, and the part of it that whoever runs it has to reach."""

    app: FastAPI
    transcriber: Transcriber
    scheduler: LiveScheduler
    control: LoadControl
    moves: Moves

    @property
    def admission(self) -> Admission:
        """Who may come in, and whether anybody is still there."""
        return self.transcriber.admission

    def ask_to_move(self, count: int) -> int:
        """Ask at most so many streams to go on elsewhere at their next pause; on the event loop.

        Returns:
            how many were asked: those that can move and have not in the last five minutes.
        """
        return self.moves.ask(count)


def create_service(
    settings: Settings,
    engine: Engine,
    registry: CollectorRegistry,
    clock: Clock,
    on_load_failed: Callable[[], None] = lambda: None,
    on_metrics_port: Callable[[int], None] = lambda _port: None,
) -> Service:
    """Put the service together; the model loads once the app's lifespan begins.

    Args:
        settings: read by the caller.
        engine: not loaded yet.
        registry: takes the metrics; one for each service.
        clock: monotonic seconds.
        on_load_failed: called when the model cannot be loaded, so that the process can end.
        on_metrics_port: told the port for metrics alone, where there is one.
    """
    metrics, release = create_metrics(registry), _version()
    ProcessCollector(registry=registry)
    control = LoadControl(metrics, clock, _control_config(settings))
    transcriber = Transcriber(engine, metrics, clock, _limits(settings), control)
    scheduler = LiveScheduler(engine, transcriber.steps, metrics, clock, control)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        _refuse_workers()
        # Not awaited before the first request: /livez has to answer while the model loads.
        tasks = [
            asyncio.create_task(
                _load_and_stream(transcriber, scheduler, metrics, release, on_load_failed)
            ),
            asyncio.create_task(_watch_loop(metrics, clock)),
        ]
        try:
            async with _metrics_port(settings, registry) as port:
                if port is not None:
                    on_metrics_port(port)
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await transcriber.close(timeout_s=CLOSE_TIMEOUT_S)

    app = FastAPI(
        title="elastic-asr",
        version=release,
        description="Speech recognition whose encoder depth is a dial.",
        lifespan=lifespan,
    )
    uploads = _upload_limits(settings)
    memory = UploadMemory(settings.max_upload_memory_bytes)
    install_edge(app, settings, metrics, clock)
    install_problems(app, metrics)
    privileges = _privileges(settings, transcriber, control)
    app.include_router(
        transcribe_router(TranscribeRoute(transcriber, privileges, memory, uploads, metrics, clock))
    )
    streams = StreamRoute(
        transcriber,
        scheduler,
        Places(settings.max_stream_sockets, clock),
        privileges,
        _stream_limits(settings),
        metrics,
        clock,
        two_pass=settings.two_pass_finals,
    )
    app.include_router(stream_router(streams))
    app.include_router(models_router(transcriber))
    app.include_router(page_router())
    app.include_router(health_router(transcriber.admission))
    if settings.metrics_port is None:
        app.include_router(exposition_router(registry))
    return Service(app, transcriber, scheduler, control, streams.moves)


def make_engine(settings: Settings) -> Engine:
    """Build the engine that settings name; it is not loaded yet."""
    return create_engine(
        settings.engine,
        model=settings.model,
        num_threads=settings.engine_threads,
        cache=settings.engine_cache,
        fake_realtime_factor=settings.fake_realtime_factor,
        device=settings.device,
    )


def _refuse_workers() -> None:
    # Workers behind one port each had a model, a controller and metrics of their own, and whoever
    # asks for any of them would hear now one and now the other.
    if multiprocessing.parent_process() is not None:
        raise SettingsInvalid(
            "expected one process behind a port, got a worker of several; start more replicas"
        )


def _metrics_port(
    settings: Settings, registry: CollectorRegistry
) -> AbstractAsyncContextManager[int | None]:
    if settings.metrics_port is None:
        return nullcontext()
    return exposition_port(registry, settings.host, settings.metrics_port)


def _privileges(settings: Settings, transcriber: Transcriber, control: LoadControl) -> Privileges:
    return Privileges(
        transcriber.plan_for,
        transcriber.admission.streams,
        settings.max_streams - settings.reserved_streams,
        lambda: (
            settings.reserved_streams > 0 and control.refuses_streams(settings.reserved_streams)
        ),
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_requests=settings.max_requests,
        max_audio_s=settings.max_audio_s,
        max_request_s=settings.max_request_s,
        batch_windows=settings.batch_windows,
        decode_threads=settings.decode_threads,
        max_streams=settings.max_streams,
    )


def _upload_limits(settings: Settings) -> UploadLimits:
    return UploadLimits(
        max_bytes=settings.max_upload_bytes,
        grace_s=settings.upload_grace_s,
        min_bytes_per_s=settings.upload_min_bytes_per_s,
    )


def _control_config(settings: Settings) -> ControlConfig:
    return ControlConfig(
        law=settings.controller,
        setpoint_s=settings.controller_setpoint_s,
        pole=settings.controller_pole,
        dwell_s=settings.controller_dwell_s,
        max_wer_increase=settings.max_wer_increase,
        min_layers=settings.min_layers,
        partial_interval_s=settings.partial_interval_s,
        early_refusal=settings.early_refusal,
    )


def _stream_limits(settings: Settings) -> StreamLimits:
    return StreamLimits(
        max_frame_bytes=settings.max_frame_bytes,
        max_buffer_s=settings.stream_buffer_s,
        burst_s=settings.stream_burst_s,
        max_speed=settings.stream_max_speed,
        first_message_s=settings.stream_first_message_s,
        idle_s=settings.stream_idle_s,
        reader_s=settings.stream_reader_s,
        leave_s=min(MAX_PAUSE_WAIT_S, settings.shutdown_grace_s / 2),
    )


async def _load_and_stream(
    transcriber: Transcriber,
    scheduler: LiveScheduler,
    metrics: Metrics,
    release: str,
    on_load_failed: Callable[[], None],
) -> None:
    metrics.process.model_ready.set(0)
    try:
        info = await transcriber.load()
    except EngineError as error:
        logger.error("the model cannot be loaded: %s", error)  # noqa: TRY400 its message is ours
        on_load_failed()
        return
    metrics.process.build_info.labels(release, info.name, str(info.layers_total)).set(1)
    metrics.process.model_ready.set(1)
    logger.info("serving %s, %d layers", info.name, info.layers_total)
    try:
        await scheduler.run(info)
    except Exception:
        # Without rounds every stream would hang before a service that calls itself ready.
        logger.exception("live streams are no longer served")
        on_load_failed()
        raise


async def _watch_loop(metrics: Metrics, clock: Clock) -> None:
    while True:
        due_s = clock() + LOOP_LAG_INTERVAL_S
        await asyncio.sleep(LOOP_LAG_INTERVAL_S)
        metrics.process.event_loop_lag.observe(max(0.0, clock() - due_s))


def _version() -> str:
    try:
        return version("elastic-asr")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"
