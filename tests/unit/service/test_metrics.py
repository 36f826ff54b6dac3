import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from service.metrics import create_metrics

COUNTERS = {
    "asr_requests",
    "asr_audio_seconds",
    "asr_estimated_flops",
    "asr_estimated_flops_full",
    "asr_admission_rejected",
    "asr_decode_rejected",
    "asr_streams",
    "asr_stream_dropped_audio_seconds",
    "asr_stream_moves",
    "asr_auth_failures",
    "asr_slo_violations",
    "asr_depth_decisions",
}
HISTOGRAMS = {
    "asr_request_duration_seconds",
    "asr_queue_wait_seconds",
    "asr_stage_duration_seconds",
    "asr_realtime_factor",
    "asr_request_estimated_flops",
    "asr_batch_size",
    "asr_word_confidence_ratio",
    "asr_event_loop_lag_seconds",
    "asr_stream_first_partial_seconds",
    "asr_stream_final_seconds",
    "asr_stream_partial_interval_seconds",
    "asr_stream_lag_seconds",
}
GAUGES = {
    "asr_build_info",
    "asr_model_ready",
    "asr_depth_layers",
    "asr_depth_drop_effective_ratio",
    "asr_queue_depth",
    "asr_streams_active",
    "asr_stream_state_bytes",
    "asr_controller_setpoint_seconds",
    "asr_controller_measured_seconds",
    "asr_controller_dimmer_ratio",
    "asr_depth_floor_layers",
    "asr_estimated_wer_ratio",
}


@pytest.fixture
def series() -> list[Metric]:
    registry = CollectorRegistry()
    create_metrics(registry)
    return list(registry.collect())


@pytest.mark.parametrize(
    ("kind", "names"), [("counter", COUNTERS), ("histogram", HISTOGRAMS), ("gauge", GAUGES)]
)
def test_the_series_are_those_that_dashboards_rely_on(
    series: list[Metric], kind: str, names: set[str]
) -> None:
    assert {one.name for one in series if one.type == kind} == names


def test_every_series_says_how_to_read_it(series: list[Metric]) -> None:
    assert all(one.documentation.endswith(".") for one in series)


def test_a_registry_takes_the_series_once() -> None:
    registry = CollectorRegistry()
    create_metrics(registry)

    with pytest.raises(ValueError, match="Duplicated timeseries"):
        create_metrics(registry)
