"""Every series that `/metrics` has, in one place; names and labels are what dashboards rely on.

Label `depth` is the offered budget at or below the effective layers that ran. FLOPs are estimated:
counted by formula, not by hardware.
"""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 900)
_STAGE_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_REALTIME_FACTOR = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
_FLOPS = (1e9, 3e9, 1e10, 3e10, 1e11, 3e11, 1e12, 3e12, 1e13, 1e14)
_BATCH = (1, 2, 3, 4, 6, 8, 12, 16, 32)
_CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
CAPTION_BUCKETS_S = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1, 1.5, 2, 3, 5, 10)
_LOOP_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


@dataclass(frozen=True, slots=True)
class ProcessSeries:
    """The process: what runs, and how its event loop and queue are."""

    build_info: Gauge
    model_ready: Gauge
    event_loop_lag: Histogram
    queue_depth: Gauge


@dataclass(frozen=True, slots=True)
class RequestSeries:
    """Requests: their number, time, audio, depth, and why some were refused."""

    outcomes: Counter
    duration: Histogram
    audio_seconds: Counter
    realtime_factor: Histogram
    flops: Histogram
    depth_layers: Gauge
    drop: Gauge
    admission_rejected: Counter
    auth_failures: Counter
    decode_rejected: Counter
    slo_violations: Counter


@dataclass(frozen=True, slots=True)
class StepSeries:
    """Engine steps: their wait, size, stages and cost."""

    queue_wait: Histogram
    batch_size: Histogram
    stage_duration: Histogram
    flops: Counter
    flops_full: Counter
    word_confidence: Histogram


@dataclass(frozen=True, slots=True)
class StreamSeries:
    """Live streams: how many, how late their captions are, what was dropped."""

    active: Gauge
    total: Counter
    first_partial: Histogram
    final: Histogram
    partial_interval: Histogram
    lag: Histogram
    moves: Counter
    dropped_audio: Counter
    state_bytes: Gauge


@dataclass(frozen=True, slots=True)
class ControllerSeries:
    """The budget controller: what it aims at, what it measures, what it decides."""

    setpoint: Gauge
    measured: Gauge
    dimmer: Gauge
    decisions: Counter
    floor_layers: Gauge
    estimated_wer: Gauge


@dataclass(frozen=True, slots=True)
class FleetSeries:
    """What a replica of a fleet adds: the fleet as it sees it."""

    replicas: Gauge
    decisions: Counter
    moves_asked: Counter


@dataclass(frozen=True, slots=True)
class Metrics:
    """All series, in groups."""

    process: ProcessSeries
    requests: RequestSeries
    steps: StepSeries
    streams: StreamSeries
    controller: ControllerSeries


def create_metrics(registry: CollectorRegistry) -> Metrics:
    """Register all series with a registry; a registry takes them once."""
    make = _Maker(registry)
    metrics = Metrics(
        _process_series(make),
        _request_series(make),
        _step_series(make),
        _stream_series(make),
        _controller_series(make),
    )
    _begin_at_zero(metrics)
    return metrics


def create_fleet_metrics(registry: CollectorRegistry) -> FleetSeries:
    """Register the series that replicas of a fleet have beside those of every service."""
    make = _Maker(registry)
    series = FleetSeries(
        replicas=make.gauge(
            "asr_fleet_replicas",
            "Replicas that take streams, as this one sees it; all see the same, so take the maximum.",
        ),
        decisions=make.counter(
            "asr_fleet_scaling_decisions_total",
            "Changes of the number of replicas by reason: debt, late, closed, spare, bounds; every "
            "replica has the same count, so take the maximum.",
            ("reason",),
        ),
        moves_asked=make.counter(
            "asr_fleet_moves_asked_total",
            "Streams that this replica asked to go on elsewhere, because others have more room.",
        ),
    )
    for reason in ("debt", "late", "closed", "spare", "bounds"):
        series.decisions.labels(reason)
    return series


def _begin_at_zero(metrics: Metrics) -> None:
    # A counter that appears with its first event has not increased, and no alert sees that event.
    for endpoint in ("transcribe", "stream"):
        for outcome in ("ok", "rejected", "overloaded", "failed", "cancelled"):
            metrics.requests.outcomes.labels(endpoint, outcome)
    for promise in ("lag", "first_partial", "final"):
        metrics.requests.slo_violations.labels(promise)
    metrics.streams.dropped_audio.labels("overload")
    for reason in ("drain", "move", "lost"):
        metrics.streams.moves.labels(reason)
    metrics.streams.active.labels("native")  # an autoscaler takes no series for no answer


class _Maker:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    def histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)


def _process_series(make: _Maker) -> ProcessSeries:
    return ProcessSeries(
        build_info=make.gauge(
            "asr_build_info",
            "Always 1; the labels say what runs.",
            ("version", "model", "layers_total"),
        ),
        model_ready=make.gauge("asr_model_ready", "1 once the model is loaded, else 0."),
        event_loop_lag=make.histogram(
            "asr_event_loop_lag_seconds",
            "How much later than due the event loop woke; high values mean it computed.",
            _LOOP_LAG_S,
        ),
        queue_depth=make.gauge("asr_queue_depth", "Engine steps that wait for the engine."),
    )


def _request_series(make: _Maker) -> RequestSeries:
    by_depth = ("endpoint", "depth")
    return RequestSeries(
        outcomes=make.counter(
            "asr_requests_total",
            "Requests by outcome: ok, rejected (4xx), overloaded (503), failed (5xx), cancelled; "
            "of the endpoint stream every utterance is one, and every stream that was refused or sent "
            "away.",
            ("endpoint", "outcome"),
        ),
        duration=make.histogram(
            "asr_request_duration_seconds",
            "From the request's first byte, for streams from the arrival of the audio that ends the "
            "utterance, to its answer; of requests that succeeded.",
            _REQUEST_S,
            by_depth,
        ),
        audio_seconds=make.counter(
            "asr_audio_seconds_total",
            "Audio transcribed; of streams what the encoder took in, of files silence too.",
            by_depth,
        ),
        realtime_factor=make.histogram(
            "asr_realtime_factor",
            "Seconds per second of audio: of files from start to end, of utterances engine time; "
            "below 1 is faster than speech.",
            _REALTIME_FACTOR,
            by_depth,
        ),
        flops=make.histogram(
            "asr_request_estimated_flops", "Operations of one request, estimated.", _FLOPS, by_depth
        ),
        depth_layers=make.gauge(
            "asr_depth_layers", "Effective layers that requests get which leave the depth to us."
        ),
        drop=make.gauge(
            "asr_depth_drop_effective_ratio",
            "Mean drop of the open streams, by who chose it: auto (the depth debt) or request; "
            "0 without any.",
            ("source",),
        ),
        admission_rejected=make.counter(
            "asr_admission_rejected_total",
            "Requests refused for want of room, by the error's code.",
            ("reason",),
        ),
        auth_failures=make.counter(
            "asr_auth_failures_total", "Requests and streams refused for want of a valid key."
        ),
        decode_rejected=make.counter(
            "asr_decode_rejected_total",
            "Uploads refused for what they hold, by the error's code.",
            ("reason",),
        ),
        slo_violations=make.counter(
            "asr_slo_violations_total",
            "Later than live captions promise: lag (packets, 1 s), first_partial (0.9 s), "
            "final (0.6 s).",
            ("slo",),
        ),
    )


def _step_series(make: _Maker) -> StepSeries:
    return StepSeries(
        queue_wait=make.histogram(
            "asr_queue_wait_seconds", "How long each engine step waited for the engine.", _STAGE_S
        ),
        batch_size=make.histogram(
            "asr_batch_size",
            "Windows or streams that an engine step took at once.",
            _BATCH,
            ("depth",),
        ),
        stage_duration=make.histogram(
            "asr_stage_duration_seconds",
            "Time of a step in one stage: audio (decoding a file), listen (the speech gate), "
            "encode, decode (words).",
            _STAGE_S,
            ("stage", "depth"),
        ),
        flops=make.counter(
            "asr_estimated_flops_total", "Operations that were run, estimated.", ("depth",)
        ),
        flops_full=make.counter(
            "asr_estimated_flops_full_total",
            "Operations that the same work would have been at full depth, estimated.",
        ),
        word_confidence=make.histogram(
            "asr_word_confidence_ratio",
            "The model's confidence in each word; calibrated, its mean is the share of right words.",
            _CONFIDENCE,
            ("depth",),
        ),
    )


def _stream_series(make: _Maker) -> StreamSeries:
    return StreamSeries(
        active=make.gauge(
            "asr_streams_active",
            "Streams that hold a place: from their first audio to their end. Sockets that are open "
            "and have said nothing do not count.",
            ("dialect",),
        ),
        total=make.counter(
            "asr_streams_total", "Streams by how they ended.", ("dialect", "close_reason")
        ),
        moves=make.counter(
            "asr_stream_moves_total",
            "Streams that came here to go on, by why they left where they were: drain (it stopped), "
            "move (it asked them to), lost (the connection broke, or it crashed).",
            ("reason",),
        ),
        first_partial=make.histogram(
            "asr_stream_first_partial_seconds",
            "From the arrival of an utterance's first speech to its first words.",
            CAPTION_BUCKETS_S,
        ),
        final=make.histogram(
            "asr_stream_final_seconds",
            "From the arrival of the audio that ends an utterance to its final.",
            CAPTION_BUCKETS_S,
        ),
        partial_interval=make.histogram(
            "asr_stream_partial_interval_seconds",
            "Between two partials of an utterance.",
            CAPTION_BUCKETS_S,
        ),
        lag=make.histogram(
            "asr_stream_lag_seconds",
            "From a packet's arrival to the first message that takes all of it into account.",
            CAPTION_BUCKETS_S,
        ),
        dropped_audio=make.counter(
            "asr_stream_dropped_audio_seconds_total",
            "Audio of streams that was not taken; their clients were told.",
            ("reason",),
        ),
        state_bytes=make.gauge(
            "asr_stream_state_bytes", "Memory of the engine's caches of all streams together."
        ),
    )


def _controller_series(make: _Maker) -> ControllerSeries:
    return ControllerSeries(
        setpoint=make.gauge(
            "asr_controller_setpoint_seconds",
            "What the controller keeps the p95 of queue wait plus step time at or below.",
        ),
        measured=make.gauge(
            "asr_controller_measured_seconds",
            "The p95 of queue wait plus step time that the latest decision was taken on.",
        ),
        dimmer=make.gauge(
            "asr_controller_dimmer_ratio",
            "What the control law asks for, before quantising: effective layers over all layers.",
        ),
        decisions=make.counter(
            "asr_depth_decisions_total",
            "Changes of the automatic depth, in effective layers, by reason.",
            ("from", "to", "reason"),
        ),
        floor_layers=make.gauge(
            "asr_depth_floor_layers", "Effective layers that the controller never goes below."
        ),
        estimated_wer=make.gauge(
            "asr_estimated_wer_ratio",
            "Word error rate on the card at the depths in use over that at full depth; 1 is full.",
        ),
    )
