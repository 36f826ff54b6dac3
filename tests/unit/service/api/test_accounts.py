import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from service.api.accounts import RequestAccounts, outcome_of
from service.metrics import create_metrics
from tests.service_kit import FakeClock


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (422, "rejected"),
        (499, "cancelled"),
        (500, "failed"),
        (503, "overloaded"),
        (504, "failed"),
    ],
)
def test_a_status_has_an_outcome(status: int, outcome: str) -> None:
    assert outcome_of(status) == outcome


async def test_a_request_that_dies_without_an_answer_counts_as_failed() -> None:
    registry = CollectorRegistry()

    async def dying(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    accounts = RequestAccounts(dying, metrics=create_metrics(registry), clock=FakeClock())
    scope = {"type": "http", "path": "/transcribe", "method": "POST"}

    with pytest.raises(ZeroDivisionError):
        await accounts(scope, None, None)  # type: ignore[arg-type]

    labels = {"endpoint": "transcribe", "outcome": "failed"}
    assert registry.get_sample_value("asr_requests_total", labels) == 1


async def ask(path: str, status: int) -> CollectorRegistry:
    """Have a request answered with a status."""
    registry = CollectorRegistry()

    async def answering(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})

    async def sent(_message: Message) -> None:
        pass

    accounts = RequestAccounts(answering, metrics=create_metrics(registry), clock=FakeClock())
    scope = {"type": "http", "path": path, "method": "GET", "client": ("192.0.2.1", 1)}
    await accounts(scope, None, sent)  # type: ignore[arg-type]
    return registry


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [
        ("/transcribe", 200, "INFO"),
        ("/v1/models", 401, "INFO"),
        ("/", 200, "INFO"),
        ("/no/such/path", 401, "INFO"),
        ("/livez", 200, "DEBUG"),
        ("/readyz", 503, "DEBUG"),
        ("/metrics", 200, "DEBUG"),
        ("/metrics", 401, "INFO"),  # a scraper is asked for a key, and whoever guesses is seen
    ],
)
async def test_every_request_has_one_line(
    path: str, status: int, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    await ask(path, status)

    (line,) = [one for one in caplog.records if one.name == "service.api.accounts"]
    assert (line.levelname, line.getMessage()) == (level, f"GET {path} -> {status} in 0.000 s")
    assert vars(line)["fields"]["client"] == "192.0.2.1"


async def test_paths_that_anybody_may_make_up_make_no_series() -> None:
    before = await ask("/transcribe", 200)
    after = await ask("/no/such/path", 404)

    assert series_of(after) <= series_of(before)
    assert not [one for one in series_of(after) if "path" in str(one)]


def series_of(registry: CollectorRegistry) -> set[tuple[object, ...]]:
    return {
        (sample.name, *sorted(sample.labels.items()))
        for metric in registry.collect()
        for sample in metric.samples
    }


async def test_a_path_forges_no_line_and_is_not_told_at_any_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")

    await ask("/a\n2026 INFO all is well\x1b[31m\udc80" + "x" * 10_000, 404)

    (line,) = [one for one in caplog.records if one.name == "service.api.accounts"]
    assert line.getMessage().isascii()
    assert line.getMessage().isprintable()
    assert "/a%0A2026%20INFO" in line.getMessage()
    assert len(line.getMessage()) < 300


async def test_a_path_of_streams_that_is_asked_for_as_a_page_counts_as_no_stream() -> None:
    registry = await ask("/v1/stream", 404)

    labels = {"endpoint": "stream", "outcome": "rejected"}
    assert registry.get_sample_value("asr_requests_total", labels) == 0
