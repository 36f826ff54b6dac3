"""Whatever asks Prometheus - panels, rules, manifests - asks for series and labels that exist."""

import pytest

from benchmarks.expressions import Expression, dashboard_expressions, rule_expressions
from tests.observability_kit import (
    OF_PROMETHEUS,
    TARGET_LABELS,
    aggregated_labels,
    expressions,
    kubernetes_expressions,
    recorded,
    selectors,
    series,
)

EXPRESSIONS = expressions()


def labels_of(name: str) -> set[str]:
    """The labels that a series has, those of its target included."""
    if name in OF_PROMETHEUS:
        return TARGET_LABELS
    if name in recorded():
        return aggregated_labels(recorded()[name])
    return TARGET_LABELS | series()[name]


def unknown_series(text: str) -> set[str]:
    names = {selector.name for selector in selectors(text)}
    return {str(name) for name in names - series().keys() - recorded().keys() - OF_PROMETHEUS}


def unknown_labels(text: str) -> set[str]:
    found = selectors(text)
    unknown = {
        f"{selector.name}: {matcher.name}"
        for selector in found
        for matcher in selector.matchers.matchers
        if matcher.name not in labels_of(str(selector.name))
    }
    known = set[str]().union(*(labels_of(str(selector.name)) for selector in found))
    return unknown | (aggregated_labels(text) - known)


@pytest.mark.parametrize("asked", EXPRESSIONS, ids=lambda one: one.place)
def test_an_expression_names_series_that_exist(asked: Expression) -> None:
    assert selectors(asked.text)
    assert not unknown_series(asked.text)


@pytest.mark.parametrize("asked", EXPRESSIONS, ids=lambda one: one.place)
def test_an_expression_names_labels_that_its_series_have(asked: Expression) -> None:
    assert not unknown_labels(asked.text)


def test_dashboards_rules_and_manifests_are_all_read() -> None:
    for found in (dashboard_expressions(), rule_expressions(), kubernetes_expressions()):
        assert len(list(found)) >= 2


def test_the_autoscalers_read_streams_and_depth_debt() -> None:
    names = {s.name for asked in kubernetes_expressions() for s in selectors(asked.text)}

    assert names == {"asr_streams_active", "asr_depth_drop_effective_ratio"}


@pytest.mark.parametrize(
    "text", ["asr_request_total", "rate(asr_requests_total[1m]) / asr_streams", "asr_requests"]
)
def test_a_series_that_does_not_exist_is_found(text: str) -> None:
    assert unknown_series(text)


@pytest.mark.parametrize(
    "text",
    [
        'asr_requests_total{outcom="ok"}',
        "sum by (depth) (asr_requests_total)",
        'asr_streams_active{le="1"}',
        'job:asr_depth_debt:ratio{instance="a"}',
    ],
)
def test_a_label_that_its_series_does_not_have_is_found(text: str) -> None:
    assert unknown_labels(text)


def test_every_series_of_ours_is_shown_somewhere() -> None:
    shown = {s.name for asked in EXPRESSIONS for s in selectors(asked.text)}
    families = {
        name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        for name in series()
        if name.startswith("asr_")
    }

    assert [
        family
        for family in sorted(families)
        if not shown & {family, f"{family}_bucket", f"{family}_sum", f"{family}_count"}
    ] == []
