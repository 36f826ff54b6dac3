"""A server's own account: its `/metrics`, read as numbers, and what they gained in a while."""

import http.client
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 10.0
GAUGES = (
    "asr_depth_layers",
    "asr_controller_dimmer_ratio",
    "asr_controller_measured_seconds",
    "asr_controller_setpoint_seconds",
    "asr_estimated_wer_ratio",
)
COUNTERS = (
    "asr_estimated_flops_total",
    "asr_estimated_flops_full_total",
    "asr_depth_decisions_total",
    "asr_admission_rejected_total",
    "asr_stream_dropped_audio_seconds_total",
    "asr_stream_lag_seconds_count",
    "asr_stream_final_seconds_count",
)


def read_metrics(port: int) -> dict[str, float]:
    """Read every sample of a server on this machine, labels added up."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return parse(connection.getresponse().read().decode())
    finally:
        connection.close()


def parse(text: str) -> dict[str, float]:
    """Add up the samples of each name, whatever their labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def gained(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Give what the counters that matter gained; one that the server has not is left out."""
    return {
        name: round(after[name] - before.get(name, 0.0), 3) for name in COUNTERS if name in after
    }


def gauges(values: Mapping[str, float]) -> dict[str, float]:
    """Give the gauges that matter and that the server has."""
    return {name: round(values[name], 4) for name in GAUGES if name in values}
