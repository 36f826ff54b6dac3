import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

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
