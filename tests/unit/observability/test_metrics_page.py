"""`docs/metrics.md` has a row for every series."""

import re

from prometheus_client import CollectorRegistry, ProcessCollector

from benchmarks.metrics_page import PAGE, renewed
from service.settings import Settings
from tests.observability_kit import series


def test_the_table_is_what_the_service_registers() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert renewed(page) == page, "run python -m benchmarks.metrics_page"


def test_every_series_is_named_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in series()}

    assert [name for name in sorted(families) if f"`{name}`" not in page] == []


def test_what_the_process_uses_is_among_the_series() -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)

    assert {metric.name for metric in registry.collect()}


def test_settings_named_on_the_page_exist() -> None:
    named = set(re.findall(r"`(ASR_[A-Z_]+)", PAGE.read_text(encoding="utf-8")))

    assert named
    assert {name.removeprefix("ASR_").lower() for name in named} <= set(Settings.model_fields)
