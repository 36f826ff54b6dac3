"""`/metrics`: every series is set by what the service does, and one process answers for all of them."""

import asyncio
import multiprocessing
import socket
import time
import urllib.request
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from service.app import create_service
from service.engine.fake import FakeEngine
from service.errors import SettingsInvalid
from service.metrics import create_metrics
from service.settings import Settings
from tests.service_kit import running, wav_bytes
from tests.stream_kit import LOUD, one_sentence, packets, serving, sound

# What nothing sets while all is well, or what an operator has to switch on.
NEEDS_TROUBLE = {
    "asr_admission_rejected",
    "asr_auth_failures",
    "asr_depth_decisions",
    "asr_slo_violations",
    "asr_stream_dropped_audio_seconds",
    "asr_stream_moves",
}
# Gauges that are back at 0 once nobody is there.
BACK_AT_ZERO = {
    "asr_depth_drop_effective_ratio",
    "asr_queue_depth",
    "asr_stream_state_bytes",
    "asr_streams_active",
}


def moved(metric: Metric) -> bool:
    return any(sample.value for sample in metric.samples if not sample.name.endswith("_created"))


async def test_files_and_streams_set_every_series() -> None:
    async with serving() as app:
        url = f"http://127.0.0.1:{app.port}"
        client = await app.connect("drop=auto")
        for speech_s in (1.5, 1.5):
            await client.send(*packets(sound((speech_s, LOUD))))
            await client.read_until("partial")
        await client.send(*packets(sound((1.0, 0.0))))
        await client.read_until("final")
        async with httpx.AsyncClient(base_url=url) as http:
            await http.post("/transcribe?drop=auto", content=wav_bytes(4))
            await http.post("/transcribe?drop=0.5", content=wav_bytes(4))
            await http.post("/transcribe", content=b"no sound")
            await asyncio.sleep(0.3)  # the loop's lag is taken every quarter of a second
            page = (await http.get("/metrics")).text
        await client.send({"type": "stop"})
        await client.read_to_end()
        unset = {one.name for one in app.registry.collect() if not moved(one)}

    known = {one.name for one in registered()}
    assert unset & known <= NEEDS_TROUBLE | BACK_AT_ZERO
    assert 'asr_streams_active{dialect="native"} 1.0' in page
    assert [name for name in known if f"# TYPE {name}" not in page] == []


def registered() -> list[Metric]:
    registry = CollectorRegistry()
    create_metrics(registry)
    return list(registry.collect())


async def test_both_endpoints_say_how_long_a_request_took_and_what_it_cost() -> None:
    async with serving() as app:
        await app.transcribe(one_sentence(), "drop=0")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.port}") as http:
            await http.post("/transcribe?drop=0", content=wav_bytes(4))

        for endpoint in ("stream", "transcribe"):
            labels = {"endpoint": endpoint, "depth": "8"}
            assert app.sample("asr_requests_total", endpoint=endpoint, outcome="ok") == 1
            assert app.sample("asr_request_duration_seconds_count", **labels) == 1
            assert (app.sample("asr_request_estimated_flops_sum", **labels) or 0) > 1e6
            assert app.sample("asr_realtime_factor_count", **labels) == 1


async def test_the_page_says_what_the_process_uses() -> None:
    async with running() as app:
        page = (await app.client.get("/metrics")).text

    assert "process_cpu_seconds_total" in page
    assert "process_resident_memory_bytes" in page


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_port_of_their_own_takes_the_metrics_from_the_service_port() -> None:
    port = free_port()
    async with running(metrics_port=port) as app:
        on_service_port = await app.client.get("/metrics")
        page = await asyncio.to_thread(fetch, f"http://127.0.0.1:{port}/metrics")

    assert on_service_port.status_code == 404
    assert "asr_model_ready 1.0" in page
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(fetch, f"http://127.0.0.1:{port}/metrics")


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


async def test_a_metrics_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(SettingsInvalid, match="expected metrics_port to be free, got"):
            async with running(metrics_port=taken.getsockname()[1]):
                pass


def serve_as_a_worker(folder: str) -> None:
    """Begin the lifespan in a child process, as uvicorn's workers do, and write down how it went."""

    async def begin() -> str:
        service = create_service(Settings(), FakeEngine(), CollectorRegistry(), time.monotonic)
        try:
            async with service.app.router.lifespan_context(service.app):
                return "served"
        except SettingsInvalid as error:
            return str(error)

    Path(folder, "answer").write_text(asyncio.run(begin()), encoding="utf-8")


async def test_one_of_several_workers_refuses_to_serve(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("spawn").Process(
        target=serve_as_a_worker, args=(str(tmp_path),)
    )
    worker.start()
    await asyncio.to_thread(worker.join, 60)

    answer = (tmp_path / "answer").read_text(encoding="utf-8")
    assert answer == (
        "expected one process behind a port, got a worker of several; start more replicas"
    )
